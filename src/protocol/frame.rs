//! Packets and frames of the native dialect.
