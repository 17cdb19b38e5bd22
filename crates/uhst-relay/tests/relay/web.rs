//! A game's web build, as browsers get it.

use std::{fs, path::Path};

use uhst_proto::protocol::WebFile;
use uhst_relay::{RelayConfig, RelayServer, RelayStartError, read_web_build};

use crate::support::{ask, config};

fn build(folder: &Path) {
    let files = [
        ("index.html", "<script type=\"module\">start()</script>"),
        ("game.js", "plain script"),
        ("game.js.br", "brotli script"),
        ("game.js.gz", "gzip script"),
        ("game.wasm", "plain module"),
        ("levels/the first.ron", "()"),
        ("levels/index.html", "all levels"),
    ];
    fs::create_dir(folder.join("levels")).unwrap();
    for (path, text) in files {
        fs::write(folder.join(path), text).unwrap();
    }
}

async fn serving() -> (RelayServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let web_files = read_web_build(folder.path()).unwrap();
    (RelayServer::start(RelayConfig { web_files, ..config() }).await.unwrap(), folder)
}

#[tokio::test]
async fn a_browser_gets_the_page_and_its_files() {
    let (relay, _folder) = serving().await;
    for (path, content_type, text) in [
        ("/", "text/html; charset=utf-8", "<script type=\"module\">start()</script>"),
        ("/?from=link", "text/html; charset=utf-8", "<script type=\"module\">start()</script>"),
        ("/index.html", "text/html; charset=utf-8", "<script type=\"module\">start()</script>"),
        ("/game.wasm", "application/wasm", "plain module"),
        ("/levels/the%20first.ron", "application/octet-stream", "()"),
        ("/levels/", "text/html; charset=utf-8", "all levels"),
    ] {
        let answer = ask(&relay, "GET", path, &["Accept: text/html,*/*"], "").await;
        assert_eq!((answer.status, answer.text()), (200, text), "{path}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
    }
    for path in ["/nothing", "/levels", "/..%2fsecret", "/%2e%2e/secret", "/%ff", "/game.js.br"] {
        assert_eq!(ask(&relay, "GET", path, &[], "").await.status, 404, "{path}");
    }
    assert_eq!(ask(&relay, "POST", "/game.js", &[], "").await.status, 404);
    let policy = ask(&relay, "GET", "/", &[], "").await.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("script-src 'self' 'wasm-unsafe-eval' 'sha256-"), "{policy}");
    assert!(!policy.contains("script-src 'self' 'unsafe-inline'"), "{policy}");
}

#[tokio::test]
async fn compressed_files_go_to_browsers_that_take_them() {
    let (relay, _folder) = serving().await;
    for (accept, encoding, text) in [
        ("gzip, deflate, br", Some("br"), "brotli script"),
        ("gzip, deflate", Some("gzip"), "gzip script"),
        ("br;q=0, gzip;q=0", None, "plain script"),
        ("identity", None, "plain script"),
    ] {
        let answer = ask(&relay, "GET", "/game.js", &[&format!("Accept-Encoding: {accept}")], "").await;
        assert_eq!((answer.status, answer.text()), (200, text), "{accept}");
        assert_eq!(answer.header("content-encoding"), encoding, "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    }
    let wasm = ask(&relay, "GET", "/game.wasm", &["Accept-Encoding: br, gzip"], "").await;
    assert_eq!((wasm.text(), wasm.header("content-encoding")), ("plain module", None));
}

#[tokio::test]
async fn a_browser_that_has_a_file_gets_no_body() {
    let (relay, folder) = serving().await;
    let accept = "Accept-Encoding: br";
    let first = ask(&relay, "GET", "/game.js", &[accept], "").await;
    let tag = first.header("etag").unwrap();
    for tags in [tag.to_owned(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let answer = ask(&relay, "GET", "/game.js", &[accept, &format!("If-None-Match: {tags}")], "").await;
        assert_eq!((answer.status, answer.text(), answer.header("etag")), (304, "", Some(tag)), "{tags}");
    }
    // The tag of the other form, and of another build.
    let plain = ask(&relay, "GET", "/game.js", &[&format!("If-None-Match: {tag}")], "").await;
    assert_eq!((plain.status, plain.text()), (200, "plain script"));
    fs::write(folder.path().join("game.js.br"), "a new build").unwrap();
    let web_files = read_web_build(folder.path()).unwrap();
    let newer = RelayServer::start(RelayConfig { web_files, ..config() }).await.unwrap();
    let answer = ask(&newer, "GET", "/game.js", &[accept, &format!("If-None-Match: {tag}")], "").await;
    assert_eq!((answer.status, answer.text()), (200, "a new build"));
}

#[tokio::test]
async fn a_head_request_gets_the_head() {
    let (relay, _folder) = serving().await;
    let url = format!("http://{}/game.js", relay.local_addr());
    let answer = reqwest::Client::new().head(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["content-length"].as_bytes()), (200, &b"12"[..]));
}

#[tokio::test]
async fn a_peer_is_not_taken_for_a_browser() {
    let (relay, _folder) = serving().await;
    assert_eq!(ask(&relay, "GET", "/?token=x", &[], "").await.status, 401);
    assert_eq!(ask(&relay, "GET", "/", &["Accept: text/event-stream"], "").await.status, 401);
}

#[tokio::test]
async fn a_content_type_that_is_no_header_is_an_error_at_the_start() {
    let web_files = vec![WebFile::new("/game.js", "text/\u{1}", "")];
    let error = RelayServer::start(RelayConfig { web_files, ..config() }).await.err().unwrap();
    assert!(matches!(error, RelayStartError::WebFile { path } if path == "/game.js"));
}
