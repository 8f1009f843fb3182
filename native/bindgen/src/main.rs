//! Writes the Rust bindings of mlx-c, in the shape that mlx-rs expects of mlx-sys.
//!
//! Usage: `mlx-bindgen <folder of mlx-c> <half_decl.h> <compiler's include folder> <first line>
//! <output>`
//!
//! `npm run bindings` runs it. They are the same on every 64-bit system, so they are committed.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [mlx_c, half_decl, compiler_include, heading, output] = args.as_slice() else {
        return Err(
            "expected: <folder of mlx-c> <half_decl.h> <include folder> <first line> <output>"
                .into(),
        );
    };

    let mut headers = Vec::new();
    for entry in fs::read_dir(Path::new(mlx_c).join("mlx/c"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            headers.push(path.to_string_lossy().into_owned());
        }
    }
    headers.sort();

    let bindings = bindgen::Builder::default()
        .headers(headers)
        .clang_arg(format!("-I{mlx_c}"))
        // The libclang package has no builtin headers (stddef.h …); those of gcc do as well.
        .clang_args(["-isystem", compiler_include, "-include", half_decl])
        .allowlist_function("mlx_.*|_mlx_.*")
        .allowlist_type("mlx_.*")
        .allowlist_var("MLX_.*|mlx_.*")
        .blocklist_type("b?float16_t|FILE|_IO_.*")
        .blocklist_type("__off.*")
        .layout_tests(false)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .raw_line(heading)
        .raw_line("#[repr(transparent)]")
        .raw_line("#[derive(Debug, Default, Copy, Clone)]")
        .raw_line("pub struct float16_t(pub u16);")
        .raw_line("pub type bfloat16_t = u16;")
        .disable_header_comment()
        .raw_line("/// C's `FILE`, never looked into.")
        .raw_line("pub type FILE = ::std::ffi::c_void;")
        .generate()?;
    bindings.write_to_file(output)?;
    Ok(())
}
