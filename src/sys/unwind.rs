//! The unwinder, from the compiler's archive rather than from `libgcc_s.so`.
//!
//! A shared library that is used only when something panics costs each start its opening, mapping and relocating, about a tenth of what a
//! `pf-listen` adds to the chain, and each rest its resident pages. Whoever has the shared one to link with has the archive beside it.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "the attribute tells the linker a library; nothing is declared"
)]
#[link(name = "gcc_eh")]
unsafe extern "C" {}
