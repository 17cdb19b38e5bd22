//! Reads a game's web build from a folder.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use uhst_proto::protocol::WebFile;

/// The largest web build, in bytes. The relay keeps it in memory.
const MAX_BYTES: u64 = 512 << 20;

/// The reason why a web build cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebBuildError {
    /// A file or a folder cannot be read.
    #[error("cannot read {} of the web build: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A browser that opens the link would find no page.
    #[error("{} has no index.html: name the folder that the game's web build was written to", path.display())]
    NoPage {
        /// The folder.
        path: PathBuf,
    },
    /// The files take more memory than a relay keeps.
    #[error("{} holds more than {max_bytes} bytes: name a folder that holds the game's web build alone", path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit, in bytes.
        max_bytes: u64,
    },
}

/// Reads the web build in a folder: `index.html`, which a browser gets that opens the join link, and all files beside and
/// below it.
///
/// A file that also lies there as brotli or gzip, such as `game.wasm` and `game.wasm.br`, is served compressed to browsers
/// that take it. Hidden files, links to folders and names that are not UTF-8 are left out.
///
/// # Errors
///
/// [`WebBuildError`] if a file cannot be read, there is no `index.html`, or the files are more than 512 MiB.
pub fn read_web_build(folder: impl AsRef<Path>) -> Result<Vec<WebFile>, WebBuildError> {
    let folder = folder.as_ref();
    let mut found = read_all(folder, MAX_BYTES)?;
    if !found.contains_key("/index.html") {
        return Err(WebBuildError::NoPage { path: folder.to_owned() });
    }
    let mut files = Vec::new();
    // In this order, a file comes before its compressed forms.
    while let Some((path, body)) = found.pop_first() {
        let kind = mime_guess::from_path(&path).first_or_octet_stream();
        let is_text = kind.type_() == "text" || kind.subtype() == "javascript";
        let content_type = if is_text { format!("{kind}; charset=utf-8") } else { kind.to_string() };
        let (brotli, gzip) = (found.remove(&format!("{path}.br")), found.remove(&format!("{path}.gz")));
        let mut file = WebFile::new(path, content_type, body);
        (file.brotli, file.gzip) = (brotli, gzip);
        files.push(file);
    }
    Ok(files)
}

/// Reads all files of a folder, by their path in the URL.
fn read_all(root: &Path, max_bytes: u64) -> Result<BTreeMap<String, Bytes>, WebBuildError> {
    let mut found = BTreeMap::new();
    let mut left = max_bytes;
    let mut folders = vec![(root.to_owned(), String::from("/"))];
    while let Some((folder, prefix)) = folders.pop() {
        let unreadable = |source| WebBuildError::Read { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, name) = (entry.path(), entry.file_name());
            let unreadable = |source| WebBuildError::Read { path: path.clone(), source };
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push((path, format!("{prefix}{name}/")));
                continue;
            }
            let metadata = fs::metadata(&path).map_err(unreadable)?;
            if !metadata.is_file() {
                continue;
            }
            left = left
                .checked_sub(metadata.len())
                .ok_or_else(|| WebBuildError::TooLarge { path: root.to_owned(), max_bytes })?;
            found.insert(format!("{prefix}{name}"), fs::read(&path).map_err(unreadable)?.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_build_is_read_with_its_types_and_compressed_forms() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("index.html", "<p>"),
            ("game.js", "1"),
            ("game_bg.wasm", "plain"),
            ("game_bg.wasm.br", "brotli"),
            ("game_bg.wasm.gz", "gzip"),
            ("assets/models/a ship.glb", "ship"),
            ("assets/old.tar.gz", "archive"),
            (".git/config", "hidden"),
        ];
        write(folder.path(), &files);
        let read = read_web_build(folder.path()).unwrap();
        let summary: Vec<_> = read.iter().map(|file| (&*file.path, &*file.content_type)).collect();
        let expected = [
            ("/assets/models/a ship.glb", "model/gltf-binary"),
            ("/assets/old.tar.gz", "application/gzip"),
            ("/game.js", "text/javascript; charset=utf-8"),
            ("/game_bg.wasm", "application/wasm"),
            ("/index.html", "text/html; charset=utf-8"),
        ];
        assert_eq!(summary, expected);
        let wasm = &read[3];
        assert_eq!((&*wasm.body, wasm.brotli.as_deref()), (&b"plain"[..], Some(&b"brotli"[..])));
        assert_eq!(wasm.gzip.as_deref(), Some(&b"gzip"[..]));
    }

    #[test]
    fn a_folder_that_is_no_build_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("game.js", "1")]);
        let error = read_web_build(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no index.html") && error.contains(folder.path().to_str().unwrap()), "{error}");
        let error = read_web_build(folder.path().join("dist")).unwrap_err().to_string();
        assert!(error.contains("dist"), "{error}");
        write(folder.path(), &[("index.html", "<p>")]);
        assert!(matches!(read_all(folder.path(), 3), Err(WebBuildError::TooLarge { max_bytes: 3, .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("index.html", "<p>")]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        assert_eq!(read_web_build(folder.path()).unwrap().len(), 1);
    }
}
