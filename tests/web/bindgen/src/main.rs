//! Makes a page's JavaScript and wasm of a program that cargo has built: `bindgen PROGRAM.wasm FOLDER`.

use std::env::args;

fn main() -> anyhow::Result<()> {
    let [_, program, folder] = &args().collect::<Vec<_>>()[..] else { anyhow::bail!("bindgen PROGRAM.wasm FOLDER") };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(program).web(true)?.typescript(false).remove_name_section(false).generate(folder)
}
