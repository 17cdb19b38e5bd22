//! The wire format: requests to relays and their replies, message bodies, tokens, signals, and the frames of the native
//! dialect.
//!
//! Everything here is pure: it converts text or bytes to values and back. The original protocol is implemented as
//! observed between the UHST JavaScript client 3.3.0 and relay 2.7.0.

mod address;
mod announcement;
mod body;
mod end_reason;
pub mod frame;
mod game;
mod key;
mod link;
mod paths;
mod payload;
mod relay;
mod signal;
mod tag;
mod token;
mod web_file;

pub use address::{AddressUse, LocalAddress, by_rank, outward};

pub use announcement::{Announcement, AnnouncementError, SERVICE_TYPE, shown};
pub use body::{Body, BodyError, NATIVE_VERSION, introduction};
pub use end_reason::EndReason;
pub use game::GameId;
pub use key::{KeyHash, KeyHashError, PublicKey};
pub use link::{JoinLink, JoinLinkError};
pub use paths::PathPolicy;
pub use payload::{Channel, Payload};
pub use relay::{HostReply, JoinReply, NativeHint, PingReply, RelayRequest, StreamEvent, StreamEventError};
pub use signal::{Candidate, Signal};
pub use tag::Tag;
pub use token::{Claims, SenderClaims, TokenError, TokenKind, peek_sender, peek_token};
pub use web_file::WebFile;
