//! The page on which a phone joins: the host's relay serves it at the join link.

use bevy_uhst::prelude::WebFile;

/// One file: its path in the browser, its type, and where it is here.
macro_rules! file {
    ($path:literal, $content_type:expr, $file:literal) => {
        WebFile::new($path, $content_type, &include_bytes!($file)[..])
    };
}

/// All of it, compiled in, so that no folder has to be found at run time.
pub fn page() -> Vec<WebFile> {
    const JS: &str = "text/javascript; charset=utf-8";
    vec![
        file!("/", "text/html; charset=utf-8", "../../assets/web/index.html"),
        file!("/style.css", "text/css; charset=utf-8", "../../assets/web/style.css"),
        file!("/icon.svg", "image/svg+xml", "../../assets/web/icon.svg"),
        file!("/fonts/Manrope-Medium.ttf", "font/ttf", "../../assets/fonts/Manrope-Medium.ttf"),
        file!("/fonts/Manrope-Bold.ttf", "font/ttf", "../../assets/fonts/Manrope-Bold.ttf"),
        file!("/app.js", JS, "../../assets/web/app.js"),
        file!("/arena.js", JS, "../../assets/web/arena.js"),
        file!("/direct.js", JS, "../../assets/web/direct.js"),
        file!("/lobby.js", JS, "../../assets/web/lobby.js"),
        file!("/memory.js", JS, "../../assets/web/memory.js"),
        file!("/outbox.js", JS, "../../assets/web/outbox.js"),
        file!("/session.js", JS, "../../assets/web/session.js"),
        file!("/stick.js", JS, "../../assets/web/stick.js"),
        file!("/table.js", JS, "../../assets/web/table.js"),
        file!("/uhst.js", JS, "../../assets/web/uhst.js"),
    ]
}
