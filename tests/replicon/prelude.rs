//! The prelude beside those of Bevy and bevy_replicon. No name in it clashes with one of theirs.

/// The scope of a game that uses all three preludes.
mod game {
    pub use bevy::prelude::*;
    pub use bevy_replicon::prelude::*;
    pub use bevy_uhst::prelude::*;
}

/// Imports each name through the globs. A name that two preludes export does not compile.
macro_rules! unambiguous {
    ($($name:ident)*) => {
        $(
            #[expect(unused_imports, reason = "an import is a use")]
            use game::$name as _;
        )*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

unambiguous! {
    Admission BroadcastReport ConnectionConfig Discovered DiscoveredBy DiscoveredSession Discovery EmbeddedRelay Encoding
    EndReason FromPeer IceCredentials IceServer Interruption JoinId JoinLink JoinLinkError JoinResponder LocalClientOf
    LocalClients MemoryRelay NetworkConditions NotHost PageLink Path PathPolicy Payload PeerOf Peers Rates Relay
    RepliconUhstPlugins SendError SessionConnected SessionEnded SessionJoining SessionReady SessionStarting Traffic
    TypedMessage UhstAnnouncement UhstAppExt UhstBrowser UhstChannel UhstClient UhstConnected UhstDiagnostic UhstDiagnostics
    UhstDisconnected UhstEnded UhstHost UhstIdentity UhstInterrupted UhstJoinAbandoned UhstJoinRequest UhstMessage UhstPathChanged UhstPeer UhstPlugin
    UhstReady UhstRejoined UhstResumed UhstSecurity UhstSender UhstSession UhstSystems WebFile WithoutReplication connected hosting joining offline
}

#[test]
fn no_name_of_the_prelude_clashes() {
    use game::*;
    // `Channel` is the type of replicon.
    assert!(Channel::Ordered != Channel::Unreliable && UhstChannel::Reliable.is_reliable());
    let source = include_str!("../../src/lib.rs");
    let prelude = source.split("pub mod prelude {").nth(1).unwrap();
    let names = prelude.split(['{', '}', ',', ';', ':']).map(str::trim);
    let names = names.filter(|name| name.chars().next().is_some_and(|first| first.is_ascii_uppercase()));
    // The overlay needs a feature that these tests do not enable.
    let missing: Vec<_> = names.filter(|name| !name.starts_with("UhstOverlay") && !NAMES.contains(name)).collect();
    assert!(missing.is_empty(), "names of the prelude that this test does not cover: {missing:?}");
}
