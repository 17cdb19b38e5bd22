//! The join link as a QR code: a phone's camera opens it in the browser, and the page there joins.

use qrcode::{Color, EcLevel};

/// Light modules around the code, without which cameras do not find it.
const QUIET: usize = 4;

/// Dark and light modules in a square, the quiet zone included.
pub struct QrCode {
    side: usize,
    dark: Vec<bool>,
}

impl QrCode {
    /// None where there is nothing to scan: a bare code, or a link too long for a code.
    pub fn of_link(link: &str) -> Option<Self> {
        if !link.starts_with("http") {
            return None;
        }
        // A screen is not scratched or dirty: the fewer modules, the larger they are.
        let code = qrcode::QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
        let (width, colours) = (code.width(), code.to_colors());
        let side = width + 2 * QUIET;
        let mut dark = vec![false; side * side];
        for (at, colour) in colours.into_iter().enumerate() {
            let (x, y) = (at % width + QUIET, at / width + QUIET);
            dark[y * side + x] = colour == Color::Dark;
        }
        Some(QrCode { side, dark })
    }

    /// Modules along one side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// All modules, line by line.
    pub fn modules(&self) -> &[bool] {
        &self.dark
    }

    #[cfg(not(target_family = "wasm"))]
    /// Lines of text, two modules high each, in which ink is dark.
    pub fn half_blocks(&self) -> impl Iterator<Item = String> {
        self.dark.chunks(2 * self.side).map(|two| {
            let (upper, lower) = two.split_at(self.side);
            let pairs = upper.iter().enumerate().map(|(x, dark)| (*dark, lower.get(x).copied().unwrap_or(false)));
            pairs
                .map(|pair| match pair {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                })
                .collect()
        })
    }
}
