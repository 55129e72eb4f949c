//! `pf-listen`: see pf-listen(1).
fn main() -> std::process::ExitCode {
    prefork::cmd::listen::main()
}
