//! Something between a peer and its relay, which passes requests on, or does as a script says.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

/// What happens with a request.
pub enum Do {
    /// The relay answers it. `/moved` is the relay, too.
    Pass,
    /// This is the answer, after which the connection is closed.
    Answer(String),
    /// The relay answers it, and of the answer's body nothing gets through; of its head, if this is set.
    HoldBack { head: bool },
}

/// One request, as it came.
#[derive(Clone)]
pub struct Request {
    pub at: Instant,
    /// Such as `POST /?action=host HTTP/1.1`.
    pub line: String,
}

impl Request {
    pub fn is(&self, what: &str) -> bool {
        self.line.contains(what)
    }

    pub fn is_stream(&self) -> bool {
        self.line.starts_with("GET")
    }

    pub fn is_message(&self) -> bool {
        self.line.starts_with("POST") && self.is("token=")
    }

    /// The path and the query.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// A server of its own port, for as long as the process lives.
pub struct Between {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Between {
    /// In front of a relay at `host:port`.
    pub fn start(relay: &str, script: impl FnMut(&Request) -> Do + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (relay, script, seen) = (relay.to_owned(), Arc::new(Mutex::new(script)), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (relay, script, seen) = (relay.clone(), script.clone(), seen.clone());
                thread::spawn(move || {
                    let decide = |request: &Request| {
                        seen.lock().unwrap().push(request.clone());
                        (script.lock().unwrap())(request)
                    };
                    // Whoever hangs up has nothing more to say.
                    let _ = serve(stream, &relay, decide);
                });
            }
        });
        Between { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// All so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Serves one request.
fn serve(mut stream: TcpStream, relay: &str, decide: impl FnOnce(&Request) -> Do) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let request = Request { at: Instant::now(), line: head.lines().next().unwrap().to_owned() };
    let hold_back = match decide(&request) {
        Do::Answer(answer) => return stream.write_all(answer.as_bytes()),
        Do::Pass => None,
        Do::HoldBack { head } => Some(head),
    };
    let mut up = TcpStream::connect(relay)?;
    let head = head.replacen(" /moved", " /", 1).replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    up.write_all(head.as_bytes())?;
    up.write_all(&body)?;
    let mut down = BufReader::new(up.try_clone()?);
    // A peer that hangs up does so at the relay, too.
    thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut io::sink());
        let _ = up.shutdown(Shutdown::Both);
    });
    if let Some(with_head) = hold_back {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if down.read_line(&mut line)? == 0 {
                break;
            }
            if with_head {
                stream.write_all(line.as_bytes())?;
            }
        }
        io::copy(&mut down, &mut io::sink())?;
    } else {
        // Byte by byte as it comes: this is a stream.
        let mut buffer = [0; 16 * 1024];
        loop {
            match down.read(&mut buffer)? {
                0 => break,
                read => stream.write_all(&buffer[..read])?,
            }
        }
    }
    stream.shutdown(Shutdown::Both)
}

/// An answer with this status, these further lines of its head, and a web page.
pub fn page(status: u16, head: &str) -> Do {
    let body = "<html>Welcome! Please log in.</html>";
    Do::Answer(format!(
        "HTTP/1.1 {status} -\r\n{head}Content-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}
