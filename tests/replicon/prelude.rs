//! Our prelude beside those of Bevy and of bevy_replicon: no name in it needs to be told apart from one of theirs.

/// What a game has in scope that uses all three.
mod game {
    pub use bevy::prelude::*;
    pub use bevy_replicon::prelude::*;
    pub use bevy_uhst::prelude::*;
}

/// Uses each name by way of the globs: one that two of them export does not compile.
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
    EndReason FromPeer IceCredentials IceServer Interruption JoinLink JoinLinkError JoinResponder LocalClientOf
    LocalClients MemoryRelay NetworkConditions NotHost PageLink Path PathPolicy Payload PeerOf Peers Rates Relay
    RepliconUhstPlugins SendError SessionConnected SessionEnded SessionJoining SessionReady SessionStarting Traffic
    TypedMessage UhstAnnouncement UhstAppExt UhstBrowser UhstChannel UhstClient UhstConnected UhstDiagnostic UhstDiagnostics
    UhstDisconnected UhstEnded UhstHost UhstInterrupted UhstJoinRequest UhstMessage UhstPathChanged UhstPeer UhstPlugin
    UhstReady UhstResumed UhstSender UhstSession UhstSystems WebFile WithoutReplication connected hosting joining offline
}

#[test]
fn no_name_of_the_prelude_clashes() {
    use game::*;
    // Replicon's own name is free for it.
    assert!(Channel::Ordered != Channel::Unreliable && UhstChannel::Reliable.is_reliable());
    let source = include_str!("../../src/lib.rs");
    let prelude = source.split("pub mod prelude {").nth(1).unwrap();
    let names = prelude.split(['{', '}', ',', ';', ':']).map(str::trim);
    let names = names.filter(|name| name.chars().next().is_some_and(|first| first.is_ascii_uppercase()));
    // The overlay is another feature.
    let missing: Vec<_> = names.filter(|name| !name.starts_with("UhstOverlay") && !NAMES.contains(name)).collect();
    assert!(missing.is_empty(), "names of the prelude that are not tried: {missing:?}");
}
