//! Writes the Rust bindings of mlx-c, in the shape that mlx-rs expects of mlx-sys.
//!
//! Usage: `mlx-bindgen <folder of mlx-c> <half_decl.h> <compiler's include folder> <output>`

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [mlx_c, half_decl, compiler_include, output] = args.as_slice() else {
        return Err("expected: <folder of mlx-c> <half_decl.h> <include folder> <output>".into());
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
        .blocklist_function("malloc")
        .blocklist_function("realloc")
        .blocklist_type("b?float16_t")
        .raw_line("#[repr(transparent)]")
        .raw_line("#[derive(Debug, Default, Copy, Clone)]")
        .raw_line("pub struct float16_t(pub u16);")
        .raw_line("pub type bfloat16_t = u16;")
        .formatter(bindgen::Formatter::None)
        .generate()?;
    bindings.write_to_file(output)?;
    Ok(())
}
