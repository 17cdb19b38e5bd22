//! The directory of public relays: a host takes one that answers, and a code alone leads joiners to it.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use bevy_uhst::{
    prelude::*,
    test_app::{TestNetwork, update_until},
};
use support::{PATIENCE, StandaloneRelay, connected, ended};

/// A web server that has one file.
fn directory(list: String) -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/list.json", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let length = list.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{list}");
        }
    });
    Relay::Directory(url)
}

#[test]
fn a_code_alone_leads_to_the_relay_that_its_prefix_names() {
    let (first, second) = (StandaloneRelay::start(), StandaloneRelay::start());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let prefixed = format!(r#"{{"urls":["http://{nobody}/","http://{}/"],"prefix":"0042"}}"#, first.address());
    // A host may take any relay of the directory, so its list has but one that lives.
    let network = TestNetwork::memory();
    let mut host = network.host_with(UhstHost::new("0042-1234").relay(directory(format!("[{prefixed}]"))));
    let other = format!(r#"{{"urls":["http://{}/"],"prefix":"0007"}}"#, second.address());
    let relay = directory(format!("[{other},{prefixed}]"));
    let mut client = network.join_with(UhstClient::join("0042-1234").relay(relay.clone()));
    assert!(update_until(&mut [&mut host, &mut client], PATIENCE, |apps| apps.iter().all(|app| connected(app) == 1)));

    // The same number with another prefix is on another relay, where nobody hosts.
    let mut lost = network.join_with(UhstClient::join("0007-1234").relay(relay.clone()));
    assert!(update_until(&mut [&mut lost], PATIENCE, |apps| ended(apps[0]) == [EndReason::NoSuchHost]));
    let mut nowhere = network.join_with(UhstClient::join("9999-1234").relay(relay));
    assert!(update_until(&mut [&mut nowhere], PATIENCE, |apps| !ended(apps[0]).is_empty()));
    assert!(matches!(ended(&nowhere)[..], [EndReason::RelayUnreachable(_)]));
}

#[test]
fn a_list_that_is_none_ends_the_session() {
    for list in ["<html>", "{}", "[]", r#"[{"urls":["nonsense"]}]"#] {
        let mut host = TestNetwork::memory().app();
        host.world_mut().spawn(UhstHost::any_id().relay(directory(list.to_owned())));
        assert!(update_until(&mut [&mut host], PATIENCE, |apps| !ended(apps[0]).is_empty()));
        assert!(matches!(ended(&host)[..], [EndReason::RelayUnreachable(_)]), "{list}: {:?}", ended(&host));
    }
}
