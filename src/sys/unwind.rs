//! Links the unwinder from the compiler's archive (`libgcc_eh.a`) rather than from `libgcc_s.so`.
//!
//! The unwinder is used only when something panics. As a shared library it is opened, mapped and
//! relocated at each start, which is about a tenth of what `pf-listen` adds to the chain, and its
//! pages stay resident. A compiler that can link the shared library has the archive beside it.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "the attribute tells the linker a library; nothing is declared"
)]
#[link(name = "gcc_eh")]
unsafe extern "C" {}
