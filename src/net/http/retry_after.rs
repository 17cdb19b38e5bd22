//! Reads the `Retry-After` header of a refusal.

use std::time::Duration;

use n0_future::time::SystemTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The requested wait. The header names seconds or a date; a date is compared with the server's own `Date`, since its clock
/// may differ from ours.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(after).ok()?;
    let now = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).or_else(now)?;
    Some(at.duration_since(now).unwrap_or_default())
}

fn now() -> Option<std::time::SystemTime> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    std::time::SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(headers: &[(&'static str, &str)]) -> Option<u64> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(waits(&[("retry-after", "7")]), Some(7));
        assert_eq!(waits(&[("retry-after", " 0 ")]), Some(0));
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(waits(&[date, ("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT")]), Some(9));
        assert_eq!(waits(&[date, ("retry-after", "Wednesday, 21-Oct-15 07:28:09 GMT")]), Some(9));
        assert_eq!(waits(&[date, ("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT")]), Some(0));
        assert_eq!(waits(&[("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT")]), Some(0));
        let soon = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(60));
        assert!(waits(&[("retry-after", &soon)]).is_some_and(|seconds| (58..=60).contains(&seconds)));
    }

    #[test]
    fn malformed_values_are_ignored() {
        for value in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(waits(&[("retry-after", value)]), None, "{value}");
        }
        assert_eq!(waits(&[]), None);
    }
}
