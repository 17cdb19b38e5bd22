//! A relay as anyone could write one from the protocol: the requests of section 1 and the events of section 4, a thread
//! for each connection, and nothing of this crate. It knows no hints and no dialects.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Who is listening, under which host id.
#[derive(Default)]
struct Listening {
    hosts: HashMap<String, TcpStream>,
    clients: HashMap<(String, String), TcpStream>,
    tokens: u64,
}

/// Starts one on a free port, for as long as the process lives, and says its URL.
pub fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let listening = Arc::new(Mutex::new(Listening::default()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, listening) = (stream.unwrap(), listening.clone());
            // A connection that breaks has nothing more to say.
            thread::spawn(move || serve(stream, &listening));
        }
    });
    url
}

/// Answers the requests of one connection, until it is closed or has become an event stream.
fn serve(mut stream: TcpStream, listening: &Mutex<Listening>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length =
            head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let (method, target) = head.split_once(' ').unwrap();
        let target = target.split(' ').next().unwrap();
        let url = url::Url::parse("http://relay/").unwrap().join(target).unwrap();
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        let token = query.get("token").and_then(|token| claims(token));
        let reply = match (method, query.get("action").map(String::as_str), token) {
            ("POST", Some("host"), _) => host(listening, query.get("hostId")),
            ("POST", Some("join"), _) => join(listening, query.get("hostId")),
            ("POST", None, Some(token)) => pass_on(listening, &token, &body),
            ("GET", None, Some(token)) if begin(listening, &token, &stream)? => {
                io::copy(&mut reader, &mut io::sink()).ok();
                end(listening, &token);
                return Ok(());
            }
            ("GET" | "POST", None, None) => Err(401),
            ("GET", ..) => Err(400),
            _ => Err(404),
        };
        let (status, reply) = match reply {
            Ok(reply) => (200, reply.to_string()),
            Err(status) => (status, String::new()),
        };
        write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n{reply}", reply.len())?;
    }
}

/// A JWT by its looks. Nobody here forges one, so nobody signs one.
fn token(kind: &str, host: &str, client: &str) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "HS256", "typ": "JWT"}));
    format!("{header}.{}.c2ln", part(json!({"type": kind, "hostId": host, "clientId": client})))
}

fn claims(token: &str) -> Option<[String; 3]> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    Some([text("type"), text("hostId"), text("clientId")])
}

fn host(listening: &Mutex<Listening>, id: Option<&String>) -> Result<Value, u16> {
    let mut listening = listening.lock().unwrap();
    listening.tokens += 1;
    let id = id.cloned().unwrap_or_else(|| format!("{:06}", listening.tokens));
    if listening.hosts.contains_key(&id) {
        return Err(400);
    }
    Ok(json!({"hostId": id, "hostToken": token("hostToken", &id, "")}))
}

fn join(listening: &Mutex<Listening>, id: Option<&String>) -> Result<Value, u16> {
    let mut listening = listening.lock().unwrap();
    let id = id.filter(|id| listening.hosts.contains_key(*id)).ok_or(400u16)?;
    listening.tokens += 1;
    Ok(json!({"clientToken": token("clientToken", id, &format!("client-{}", listening.tokens))}))
}

fn pass_on(listening: &Mutex<Listening>, [kind, host, client]: &[String; 3], body: &[u8]) -> Result<Value, u16> {
    let body: Value = serde_json::from_slice(body).map_err(|_| 400u16)?;
    let mut listening = listening.lock().unwrap();
    let listener = match kind.as_str() {
        "clientToken" => listening.hosts.get_mut(host),
        "responseToken" => listening.clients.get_mut(&(host.clone(), client.clone())),
        _ => return Err(400),
    };
    let data = match kind.as_str() {
        "clientToken" => json!({"responseToken": token("responseToken", host, client), "body": body}),
        _ => json!({"body": body}),
    };
    tell(listener.ok_or(400u16)?, &format!("data: {data}\n\n"));
    Ok(json!({}))
}

/// Whether this bearer listens from now on.
fn begin(listening: &Mutex<Listening>, [kind, host, client]: &[String; 3], stream: &TcpStream) -> io::Result<bool> {
    let mut listening = listening.lock().unwrap();
    let mut own = stream.try_clone()?;
    let (is_host, taken) = (kind == "hostToken", listening.hosts.contains_key(host));
    if is_host == taken || kind == "responseToken" {
        return Ok(false);
    }
    write!(own, "HTTP/1.1 200 -\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    tell(&mut own, ": Connected.\n");
    if is_host {
        listening.hosts.insert(host.clone(), own);
    } else {
        listening.clients.insert((host.clone(), client.clone()), own);
    }
    Ok(true)
}

fn end(listening: &Mutex<Listening>, [kind, host, client]: &[String; 3]) {
    let mut listening = listening.lock().unwrap();
    let event =
        |kind: &str, id: &str| format!("event: relay_event\ndata: {}\n\n", json!({"eventType": kind, "body": id}));
    if kind == "hostToken" {
        listening.hosts.remove(host);
        let clients = listening.clients.iter_mut().filter(|((of, _), _)| of == host);
        clients.for_each(|(_, stream)| tell(stream, &event("host_closed", host)));
    } else {
        listening.clients.remove(&(host.clone(), client.clone()));
        listening.hosts.get_mut(host).into_iter().for_each(|stream| tell(stream, &event("client_closed", client)));
    }
}

/// Writes a chunk. A listener that is gone is noticed by who reads from it.
fn tell(stream: &mut TcpStream, text: &str) {
    let _ = write!(stream, "{:x}\r\n{text}\r\n", text.len());
}
