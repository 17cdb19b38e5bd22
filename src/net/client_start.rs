//! Starts a client: finds the relay, asks to join, and listens.

use url::Url;

use super::{
    contract::ClientOptions, directory, embedded_lookup, events::EventStream, listen::join, relay_access::Joined,
    relay_client::RelayClient, relay_error::RelayError, relay_options::Relay, start_retry::StartRetry,
};
use crate::protocol::EndReason;

/// A client that the relay has let join.
pub(super) struct Found {
    pub relay: RelayClient,
    pub id: String,
    pub joined: Joined,
    pub stream: EventStream,
}

/// Finds the relay of the target, asks to join, and listens.
///
/// # Errors
///
/// The reason for the end of the session.
pub(super) async fn find(options: &ClientOptions) -> Result<Found, EndReason> {
    let id = options.target.id.clone();
    let relay = match (&options.target.relay, &options.session.relay) {
        (Some(url), own) => relay_of_link(url, own)?,
        (None, Relay::Memory(memory)) => RelayClient::Memory(memory.clone()),
        (None, Relay::Url(url)) => RelayClient::at(url).map_err(RelayError::into_not_started)?,
        (None, Relay::Embedded(embedded)) => embedded_lookup::relay_of(embedded, &id).await?,
        (None, Relay::Directory(url)) => directory::relay(url, Some(&id)).await?,
    };
    let mut retry = StartRetry::new();
    if options.target.key().is_some() {
        retry.by_link();
    }
    loop {
        match join(&relay, &id, &mut retry).await {
            Ok((joined, stream)) => return Ok(Found { relay, id, joined, stream }),
            Err(error) => retry.after(error).await.map_err(|error| match error {
                RelayError::Rejected => EndReason::NoSuchHost,
                error => relay.unreachable(&error),
            })?,
        }
    }
}

/// Checks the relay of a link. Anybody may write a link, and a request alone can make a machine on the player's own
/// network act. So a link may only name the root of a server, unless that has a certificate, or the game itself names this
/// relay.
fn relay_of_link(url: &Url, own: &Relay) -> Result<RelayClient, EndReason> {
    let relay = RelayClient::http(url.clone()).map_err(RelayError::into_not_started)?;
    let is_own = matches!(own, Relay::Url(own) if RelayClient::at(own).is_ok_and(|own| own.url() == relay.url()));
    let is_root = url.path() == "/" && url.query().is_none_or(str::is_empty);
    let has_login = !url.username().is_empty() || url.password().is_some();
    if is_own || !has_login && (is_root || url.scheme() == "https") {
        return Ok(relay);
    }
    let words = "this is no link of a session: a link without https has only a / before its #, and no link has a user \
                 name";
    Err(EndReason::NotStarted(words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_without_a_certificate_names_only_the_root_of_a_server() {
        let relay_of_link = |link: &str, own: &str| {
            let own = if own.is_empty() { Relay::default() } else { Relay::Url(own.to_owned()) };
            relay_of_link(&Url::parse(link).expect("a URL"), &own).map(|_| ())
        };
        for link in ["http://192.168.1.5:3000/", "http://relay.example", "https://relay.example/games?eu=1"] {
            assert_eq!(relay_of_link(link, ""), Ok(()), "{link}");
        }
        for link in [
            "http://192.168.1.1/reboot",
            "http://192.168.1.1/?reboot=1",
            "http://router.example/a/../reboot",
            "http://admin:admin@192.168.1.1/",
            "https://admin@192.168.1.1/",
        ] {
            let Err(EndReason::NotStarted(words)) = relay_of_link(link, "") else { panic!("{link}") };
            assert!(!words.contains("admin"), "{words}");
            assert_eq!(relay_of_link(link, link), Ok(()), "the game's own relay");
            assert!(relay_of_link(link, "http://192.168.1.2/").is_err(), "{link}");
        }
    }
}
