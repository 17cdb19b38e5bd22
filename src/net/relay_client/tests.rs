use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use futures_util::future::{Either, select, select_all};

use super::*;

/// Starts a relay that answers the first request of each connection and closes the connection at the second one. A client
/// meets this when a relay closes an idle connection just as it is reused.
fn closing_relay(reply: impl Into<String>) -> (Url, mpsc::Receiver<String>) {
    let reply = reply.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut writer = stream.unwrap();
            let mut reader = BufReader::new(writer.try_clone().unwrap());
            for answered in [true, false] {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
                });
                let _ = std::io::Read::read_exact(&mut reader, &mut vec![0; length.unwrap_or(0)]);
                if answered {
                    sender.send(head.lines().next().unwrap_or_default().to_owned()).unwrap();
                    let _ = write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{reply}", reply.len());
                }
            }
        }
    });
    (url, requests)
}

#[tokio::test]
async fn a_request_on_a_closed_connection_is_retried() {
    let (url, requests) = closing_relay(r#"{"hostId":"a b","hostToken":"t"}"#);
    let relay = RelayClient::http(url.clone()).unwrap();
    for _ in 0..4 {
        let (id, access) = relay.host(Some("a b")).await.unwrap();
        assert_eq!((id.as_str(), &*access.token), ("a b", "t"));
        relay.clone().send(url.clone().into(), "t".into(), "{}".to_owned()).await.unwrap();
    }
    // Each request is answered once.
    assert_eq!(requests.try_iter().count(), 8);
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_does_not_delay_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Arc::new(Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap());
    let answer = |mut stream: TcpStream| {
        let mut request = String::new();
        let _ = BufReader::new(&stream).read_line(&mut request);
        if request.contains("token=asleep") {
            thread::park();
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    };
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || answer(stream)))));
    let relay = RelayClient::http((*url).clone()).unwrap();
    let post = |token: &str| relay.clone().send(url.clone(), token.into(), "{}".to_owned());
    let asleep = select_all((0..3 * LOCAL_POSTS).map(|_| Box::pin(post("asleep"))));
    let awake = pin!(async {
        // This POST comes after all others.
        tokio::task::yield_now().await;
        post("awake").await
    });
    match select(asleep, awake).await {
        Either::Left(_) => panic!("an unanswered POST returned"),
        Either::Right((answer, _)) => answer.unwrap(),
    }
}

#[tokio::test]
async fn ids_are_percent_encoded() {
    let (url, requests) = closing_relay(r#"{"clientToken":"t"}"#);
    let relay = RelayClient::http(url).unwrap();
    relay.join("a b+c&d=e#f%20g/größe 🎲").await.unwrap();
    assert_eq!(
        requests.recv().unwrap(),
        "POST /?action=join&hostId=a+b%2Bc%26d%3De%23f%2520g%2Fgr%C3%B6%C3%9Fe+%F0%9F%8E%B2&uhst=2 HTTP/1.1"
    );
}

#[test]
fn errors_hide_the_key_to_host() {
    let gone = RelayError::Unreachable("gone".to_owned());
    for (url, is_shown) in [
        ("http://127.0.0.1:3000/?key=secret", "http://127.0.0.1:3000/"),
        ("http://relay/?region=eu&key=secret", "http://relay/?region=eu"),
    ] {
        let relay = RelayClient::http(Url::parse(url).unwrap()).unwrap();
        let reason = relay.unreachable(&gone).to_string();
        assert!(reason.contains(&format!("{is_shown}: ")) && !reason.contains("secret"), "{reason}");
    }
}

#[tokio::test]
async fn an_id_with_control_characters_is_refused() {
    let (url, _requests) = closing_relay(r#"{"hostId":"a\u001b[2Jb","hostToken":"t"}"#);
    let hosted = RelayClient::http(url).unwrap().host(None).await;
    assert!(matches!(hosted, Err(RelayError::NotARelay(_))), "{hosted:?}");
}

#[tokio::test]
async fn messages_go_to_the_urls_of_the_reply() {
    let reply = r#"{"clientToken":"t","sendUrl":"https://send.example/path","receiveUrl":"/events"}"#;
    let (url, _requests) = closing_relay(reply);
    let joined = RelayClient::http(url.clone()).unwrap().join("x").await.unwrap();
    assert_eq!(joined.access.send_to.as_str(), "https://send.example/path");
    assert_eq!(joined.access.listen_at, url.join("/events").unwrap());
}

#[tokio::test]
async fn a_reply_cannot_name_other_machines_of_the_network() {
    for place in ["http://192.168.1.1/", "http://127.0.0.1:1/", "//10.0.0.1/", "file:///etc/passwd"] {
        for member in ["sendUrl", "receiveUrl"] {
            let (url, _requests) = closing_relay(format!(r#"{{"clientToken":"t","{member}":"{place}"}}"#));
            let joined = RelayClient::http(url).unwrap().join("x").await;
            assert!(matches!(joined, Err(RelayError::NotARelay(_))), "{member} {place}: {joined:?}");
        }
    }
}
