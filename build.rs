//! Link settings of the addon.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let addon = env::var_os("CARGO_FEATURE_NAPI").is_some();
    if addon {
        napi_build::setup();
    }
    compile_primitives();
    // Absent where mlx-sys has built MLX itself, and linked it statically.
    if let Ok(lib) = env::var("DEP_MLX_LIB") {
        if addon {
            // The platform package holds MLX beside the addon, laid out as in its wheel.
            let mac = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos");
            let beside = if mac { "@loader_path" } else { "$ORIGIN" };
            println!("cargo::rustc-link-arg-cdylib=-Wl,-rpath,{beside}/mlx/lib");
        } else {
            // Tests and benchmarks run where they were built.
            println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        }
    }
}

/// Compiles the C++ that hangs our kernels into MLX's graph, gives it mapped files and lets it run
/// out of memory, against the headers that mlx-sys (or the configuration that stands in for its
/// build script) names.
fn compile_primitives() {
    println!("cargo::rerun-if-changed=native/primitives");
    println!("cargo::rerun-if-changed=native/mlxc");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").opt_level(2);
    build.files(
        ["custom", "gpu", "mapped", "memory"].map(|name| format!("native/primitives/{name}.cpp")),
    );
    if let Some(include) = env::var_os("DEP_MLX_INCLUDE") {
        for folder in env::split_paths(&include) {
            // As system headers: their warnings are not ours.
            build.flag("-isystem").flag(folder);
        }
    }
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        build.flag("-include").flag("native/mlxc/half_types.hpp");
    }
    build.flag_if_supported("-Wno-unused-parameter").compile("nodemlx_primitives");
}
