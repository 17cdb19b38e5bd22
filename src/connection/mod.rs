//! The connection with one peer, without I/O: packets, time and commands in; packets and events out.
