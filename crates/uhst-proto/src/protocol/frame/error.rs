//! The error of packets that cannot be read.

/// A packet or frame that violates the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end within a value.
    #[error("a packet ends too early")]
    Truncated,
    /// The kind of the frame is unknown to this version.
    #[error("a frame of the unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A value is out of range.
    #[error("a frame with an invalid {0}")]
    Invalid(&'static str),
    /// The hello has a version of the native dialect that this build does not support.
    #[error("the other side speaks version {0} of the native dialect: update the older of the two games")]
    Version(u64),
}
