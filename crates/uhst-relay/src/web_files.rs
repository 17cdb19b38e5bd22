//! The files that a relay serves to browsers, prepared for the requests to come.

use std::{collections::HashMap, fmt::Write};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT_ENCODING, HeaderValue, IF_NONE_MATCH, InvalidHeaderValue},
};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use uhst_proto::protocol::WebFile;

use super::answer::{self, Answer};

/// The page that a browser gets for a path with a slash at its end.
const PAGE: &str = "index.html";

/// The files of a relay, by path.
#[derive(Default)]
pub(super) struct WebFiles(HashMap<String, Prepared>);

struct Prepared {
    content_type: HeaderValue,
    policy: HeaderValue,
    /// In the order of preference. The last one is not compressed.
    forms: Vec<Form>,
}

/// The content in one encoding.
struct Form {
    encoding: Option<&'static str>,
    body: Bytes,
    /// The entity tag: browsers that have this form already get no body.
    tag: HeaderValue,
}

impl WebFiles {
    /// Prepares the files. A later file replaces an earlier one of the same path.
    ///
    /// # Errors
    ///
    /// The path of a file whose content type is no value of a header.
    pub fn new(files: &[WebFile]) -> Result<Self, String> {
        let prepared = files.iter().map(|file| match Prepared::new(file) {
            Ok(prepared) => Ok((file.path.clone().into_owned(), prepared)),
            Err(_) => Err(file.path.clone().into_owned()),
        });
        prepared.collect::<Result<_, _>>().map(WebFiles)
    }

    /// Returns the answer to a request for this path, if there is such a file.
    pub fn answer(&self, path: &str, request: &HeaderMap) -> Option<Answer> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let page = || self.0.get(&format!("{path}{PAGE}")).filter(|_| path.ends_with('/'));
        let file = self.0.get(&*path).or_else(page)?;
        Some(file.answer(request))
    }
}

impl Prepared {
    fn new(file: &WebFile) -> Result<Self, InvalidHeaderValue> {
        let compressed = [("br", &file.brotli), ("gzip", &file.gzip)];
        let forms = compressed.into_iter().filter_map(|(encoding, body)| Some((Some(encoding), body.as_ref()?)));
        let forms = forms.chain([(None, &file.body)]).map(|(encoding, body)| {
            let tag = BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..16]);
            let tag = HeaderValue::from_str(&format!("\"{tag}{}\"", encoding.unwrap_or_default()))?;
            Ok(Form { encoding, body: body.clone(), tag })
        });
        Ok(Prepared {
            content_type: HeaderValue::from_str(&file.content_type)?,
            policy: HeaderValue::from_str(&answer::page_policy(&inline_scripts(file)))?,
            forms: forms.collect::<Result<_, _>>()?,
        })
    }

    fn answer(&self, request: &HeaderMap) -> Answer {
        let chosen = self.forms.iter().find(|form| form.encoding.is_none_or(|encoding| accepts(request, encoding)));
        // The last form is not compressed.
        let form = chosen.unwrap_or(&self.forms[self.forms.len() - 1]);
        let is_known = request.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok()).any(|tags| {
            tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == form.tag)
        });
        let (status, body) =
            if is_known { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, form.body.clone()) };
        answer::file(status, body, &self.content_type, &self.policy, form.encoding, &form.tag)
    }
}

/// Whether a browser takes this encoding.
fn accepts(request: &HeaderMap, encoding: &str) -> bool {
    let listed = request.get_all(ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.trim().strip_prefix("q=").map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0));
        name.trim().eq_ignore_ascii_case(encoding) && weight > 0.0
    })
}

/// The sources of the policy for the scripts inside a page: their hashes. Build tools write the script that starts the game
/// into the page.
fn inline_scripts(file: &WebFile) -> String {
    let mut sources = String::new();
    if !file.content_type.starts_with("text/html") {
        return sources;
    }
    let page = String::from_utf8_lossy(&file.body);
    let lower = page.to_ascii_lowercase();
    let mut at = 0;
    while let Some(begin) = lower[at..].find("<script").map(|found| at + found) {
        // A comment may speak of scripts, and a script may hold what begins a comment.
        if let Some(comment) = lower[at..begin].find("<!--").map(|found| at + found) {
            let Some(end) = lower[comment + 4..].find("-->").map(|found| comment + 4 + found) else { break };
            at = end;
            continue;
        }
        let Some(start) = lower[begin..].find('>').map(|found| begin + found + 1) else { break };
        let Some(end) = lower[start..].find("</script").map(|found| start + found) else { break };
        if start < end && !lower[begin..start].contains(" src=") {
            // Browsers read all line ends as line feeds.
            let script = page[start..end].replace("\r\n", "\n").replace('\r', "\n");
            let hash = BASE64_STANDARD.encode(Sha256::digest(script));
            let _ = write!(sources, " 'sha256-{hash}'");
        }
        at = end;
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(hyper::header::HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn encodings_are_taken_by_their_names_and_weights() {
        for (list, brotli) in [
            ("gzip, deflate, br, zstd", true),
            ("gzip, deflate", false),
            ("BR;q=0.5", true),
            ("br;q=0, gzip", false),
            ("br; q=0.1", true),
            ("brotli", false),
            ("br;q=nonsense", false),
        ] {
            assert_eq!(accepts(&request(&[(ACCEPT_ENCODING, list)]), "br"), brotli, "{list}");
        }
        assert!(!accepts(&HeaderMap::new(), "br"));
    }

    #[test]
    fn scripts_inside_a_page_are_allowed_by_their_hash() {
        let page = "<!doctype html><SCRIPT type=module>go(\"<!--\")</SCRIPT><script src=\"a.js\"></script><script></script>\
                    <!-- the <script> below --><script type=\"importmap\">{\r\n}\r</script><script>never ends";
        let sources = inline_scripts(&WebFile::new("/", "text/html; charset=utf-8", page));
        let hash = |text: &str| format!(" 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
        assert_eq!(sources, hash("go(\"<!--\")") + &hash("{\n}\n"));
        assert_eq!(inline_scripts(&WebFile::new("/a.js", "text/javascript", page)), "");
    }

    #[test]
    fn a_content_type_that_is_no_header_names_its_file() {
        let files = [WebFile::new("/", "text/html", ""), WebFile::new("/b", "text/\n", "")];
        assert_eq!(WebFiles::new(&files).err().as_deref(), Some("/b"));
    }
}
