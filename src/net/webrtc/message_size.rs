//! The largest message that an original takes: `a=max-message-size` in its description (RFC 8841, section 6).
//!
//! The library applies the smaller limit of both sides to both directions, and so drops messages of an original that are
//! above the original's own limit. This module therefore replaces the peer's limit by ours, and the caller enforces the
//! peer's limit.

use super::MAX_MESSAGE;

const ATTRIBUTE: &str = "a=max-message-size:";
/// The limit of a peer that announces none, in bytes.
const UNANNOUNCED: usize = 65_536;

/// The largest message that the sender of this description takes, in bytes. Zero in it means no limit.
pub(super) fn announced(sdp: &str) -> usize {
    let value = sdp.lines().find_map(value);
    let digits = value.filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.map(str::parse::<usize>) {
        None => UNANNOUNCED,
        Some(Ok(0) | Err(_)) => MAX_MESSAGE,
        Some(Ok(size)) => size.min(MAX_MESSAGE),
    }
}

/// The description with our limit.
pub(super) fn with_ours(sdp: &str) -> String {
    let mut description = String::with_capacity(sdp.len() + ATTRIBUTE.len() + 8);
    for line in sdp.lines().filter(|line| value(line).is_none()) {
        description.push_str(line);
        description.push_str("\r\n");
    }
    // The last section is that of the data channels. Originals have no other.
    description + ATTRIBUTE + &MAX_MESSAGE.to_string() + "\r\n"
}

fn value(line: &str) -> Option<&str> {
    line.trim().strip_prefix(ATTRIBUTE).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_limit_counts_up_to_that_of_the_library() {
        let announcing =
            |value: &str| announced(&format!("v=0\r\nm=application 9\r\n{ATTRIBUTE}{value}\r\na=mid:0\r\n"));
        assert_eq!(announcing("100000"), 100_000);
        assert_eq!(announcing(" 16384 "), 16_384);
        assert_eq!(announcing("262144"), MAX_MESSAGE);
        for any in ["0", "1073741823", "4294967296", "99999999999999999999999999"] {
            assert_eq!(announcing(any), MAX_MESSAGE, "{any}");
        }
        for none in ["", "-1", "many", "+5"] {
            assert_eq!(announcing(none), UNANNOUNCED, "{none}");
        }
        assert_eq!(announced("v=0\r\nm=application 9\r\n"), UNANNOUNCED);
    }

    #[test]
    fn the_library_reads_our_limit() {
        let ours = format!("v=0\r\nm=application 9\r\na=mid:0\r\n{ATTRIBUTE}262144\r\n");
        for theirs in [
            "v=0\r\nm=application 9\r\na=max-message-size:5\r\na=mid:0\r\n",
            "v=0\nm=application 9\na=mid:0\na=max-message-size:many",
            "v=0\r\nm=application 9\r\na=mid:0",
        ] {
            assert_eq!(with_ours(theirs), ours);
        }
    }
}
