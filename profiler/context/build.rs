//! Puts the thread context symbol into the dynamic symbol table of programs that use this crate, with no build script
//! of their own.
//!
//! A linker exports from a program what a shared library on its command line refers to. So this script writes such a
//! library, 700 bytes with nothing in it but one weak, undefined, thread-local reference, and has it linked. It
//! defines nothing, so under `--as-needed`, which Rust's link step always sets, the program does not depend on it:
//! nothing is loaded at run time, and the file need not exist then.
//!
//! With lld (Rust's default on x86-64 Linux) this exports the symbol; GNU ld ignores weak references from libraries,
//! which is harmless: readers then go by the process context, or the application's build script exports the symbol
//! (`spanprof_context::build::export_symbol`).
//!
//! Left out for statically linked programs, which must not refer to any shared library, and where
//! `SPANPROF_NO_EXPORT_STUB` is set.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

const SYMBOL: &str = "otel_thread_ctx_v1";
const LIBRARY: &str = "spanprof_export_stub";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SPANPROF_NO_EXPORT_STUB");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let is_static = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    let machine = match target("ARCH").as_str() {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => return Ok(()),
    };
    let little_endian = target("ENDIAN") == "little";
    if target("OS") != "linux"
        || is_static
        || !little_endian
        || env::var_os("SPANPROF_NO_EXPORT_STUB").is_some()
    {
        return Ok(());
    }
    let directory = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(directory.join(format!("lib{LIBRARY}.so")), shared_library(machine))?;
    println!("cargo:rustc-link-search=native={}", directory.display());
    println!("cargo:rustc-link-lib=dylib={LIBRARY}");
    Ok(())
}

/// An ELF shared library for linkers only: dynamic symbols, their names, a dynamic section, and the headers of these.
fn shared_library(machine: u16) -> Vec<u8> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const PROGRAM_HEADERS: usize = 2;

    // Offset 0 of a string table is the empty string.
    let soname = format!("lib{LIBRARY}.so");
    let names = format!("\0{SYMBOL}\0{soname}\0").into_bytes();
    let (symbol_name, soname_at) = (1u64, 2 + SYMBOL.len() as u64);
    let section_names = b"\0.hash\0.dynsym\0.dynstr\0.dynamic\0.shstrtab\0";

    let mut symbols = vec![0; 24];
    symbols.extend((symbol_name as u32).to_le_bytes());
    // Binding weak (2), type TLS (6), default visibility, undefined section, no value, no size.
    symbols.extend([2 << 4 | 6, 0, 0, 0]);
    symbols.extend([0; 16]);
    // One bucket that leads to symbol 1; two chain entries, both ending.
    let hash = words_32(&[1, 2, 1, 0, 0]);

    let hash_at = HEADER + PROGRAM_HEADERS * PROGRAM_HEADER;
    let symbols_at = (hash_at + hash.len()).next_multiple_of(8);
    let names_at = symbols_at + symbols.len();
    let dynamic_at = (names_at + names.len()).next_multiple_of(8);
    let dynamic = words_64(&[
        (14, soname_at),
        (4, hash_at as u64),
        (5, names_at as u64),
        (6, symbols_at as u64),
        (10, names.len() as u64),
        (11, 24),
        (0, 0),
    ]);
    let section_names_at = dynamic_at + dynamic.len();
    let sections_at = (section_names_at + section_names.len()).next_multiple_of(8);

    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01");
    file.extend([0; 9]);
    file.extend(3u16.to_le_bytes()); // shared object
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(0u64.to_le_bytes()); // no entry point
    file.extend((HEADER as u64).to_le_bytes());
    file.extend((sections_at as u64).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for size in [HEADER, PROGRAM_HEADER, PROGRAM_HEADERS, 64, 6, 5] {
        file.extend((size as u16).to_le_bytes());
    }
    // Everything readable at address 0; the dynamic section.
    program_header(&mut file, 1, 0, sections_at, 0x1000);
    program_header(&mut file, 2, dynamic_at, dynamic.len(), 8);
    for (offset, bytes) in [
        (hash_at, &hash[..]),
        (symbols_at, &symbols),
        (names_at, &names),
        (dynamic_at, &dynamic),
        (section_names_at, section_names),
    ] {
        file.resize(offset, 0);
        file.extend(bytes);
    }
    file.resize(sections_at, 0);
    file.extend([0; 64]);
    // Name, type, offset, size, link (a section's number), info, alignment, entry size. All but the last are loaded.
    section(&mut file, [1, 5, hash_at, hash.len(), 2, 0, 8, 4], true);
    section(&mut file, [7, 11, symbols_at, symbols.len(), 3, 1, 8, 24], true);
    section(&mut file, [15, 3, names_at, names.len(), 0, 0, 1, 0], true);
    section(&mut file, [23, 6, dynamic_at, dynamic.len(), 3, 0, 8, 16], true);
    section(&mut file, [32, 3, section_names_at, section_names.len(), 0, 0, 1, 0], false);
    file
}

fn program_header(file: &mut Vec<u8>, kind: u32, offset: usize, size: usize, alignment: u64) {
    file.extend(kind.to_le_bytes());
    file.extend(4u32.to_le_bytes()); // readable
    for word in [offset, offset, offset, size, size] {
        file.extend((word as u64).to_le_bytes());
    }
    file.extend(alignment.to_le_bytes());
}

fn section(file: &mut Vec<u8>, fields: [usize; 8], is_loaded: bool) {
    let [name, kind, offset, size, link, info, alignment, entry_size] = fields.map(|field| field as u64);
    let address = if is_loaded { offset } else { 0 };
    file.extend((name as u32).to_le_bytes());
    file.extend((kind as u32).to_le_bytes());
    for word in [if is_loaded { 2 } else { 0 }, address, offset, size] {
        file.extend(word.to_le_bytes());
    }
    file.extend((link as u32).to_le_bytes());
    file.extend((info as u32).to_le_bytes());
    file.extend(alignment.to_le_bytes());
    file.extend(entry_size.to_le_bytes());
}

fn words_32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words_64(pairs: &[(u64, u64)]) -> Vec<u8> {
    pairs.iter().flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()]).flatten().collect()
}
