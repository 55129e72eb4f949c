//! Finds a program and a directory the way exec will find them.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

/// The directory with every symlink resolved.
///
/// # Errors
/// ENOENT, EACCES, or ENOTDIR where the path is something else.
pub fn real_dir(path: &Path) -> io::Result<PathBuf> {
    let real = fs::canonicalize(path)?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(Errno::ENOTDIR.into())
    }
}

/// The program that `name` means in `cwd`. A name with a slash is a path; another one is looked up
/// in `path` (the PATH variable). The program's directory is resolved and its last component stays
/// as given: so a `current` symlink is followed now, and a later change of it has no effect.
///
/// # Errors
/// ENOENT: there is none. EACCES: there is one that may not be executed.
pub fn find(name: &OsStr, cwd: &Path, path: Option<&OsStr>) -> io::Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return resolve(&cwd.join(name));
    }
    let mut found = Errno::ENOENT;
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    for dir in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry is the working directory, as in execvp(3).
        match resolve(&cwd.join(OsStr::from_bytes(dir)).join(name)) {
            Ok(program) => return Ok(program),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(found.into())
}

/// Checks that this is a file that we may execute, and that a script's interpreter may be executed.
///
/// # Errors
/// Why not: ENOENT, EACCES.
pub fn check(program: &Path) -> io::Result<()> {
    if fs::metadata(program)?.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    access(program, AccessFlags::X_OK)?;
    let Some(interpreter) = interpreter(program) else {
        return Ok(());
    };
    // The kernel reports a missing interpreter as ENOENT of the script itself, which misleads.
    let (kind, why) = match access(&interpreter, AccessFlags::X_OK) {
        Err(Errno::ENOENT) => (io::ErrorKind::NotFound, "does not exist"),
        Err(Errno::EACCES) => (io::ErrorKind::PermissionDenied, "may not be executed"),
        Ok(()) | Err(_) => return Ok(()),
    };
    // A carriage return from a Windows line end would be invisible in the message.
    let name = interpreter.display().to_string().replace('\r', "\\r");
    Err(io::Error::new(
        kind,
        format!("its interpreter {name} {why}"),
    ))
}

/// The interpreter that a script names in its first line. None for a relative path: where it leads
/// depends on the directory of the process that executes it.
fn interpreter(program: &Path) -> Option<PathBuf> {
    // The kernel reads no more than this of a script's head.
    let mut head = Vec::new();
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(program);
    file.ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    let path = words.into_iter().find(|word| !word.is_empty())?;
    let path = Path::new(OsStr::from_bytes(path));
    path.is_absolute().then(|| path.to_owned())
}

fn resolve(program: &Path) -> io::Result<PathBuf> {
    check(program)?;
    let (Some(dir), Some(last)) = (program.parent(), program.file_name()) else {
        return Err(Errno::ENOENT.into());
    };
    Ok(real_dir(dir)?.join(last))
}

/// The first of these directories that this process can change to; the root if there is none.
pub fn first_dir<'a>(dirs: impl IntoIterator<Item = Option<&'a Path>>) -> PathBuf {
    let can_enter = |dir: &&Path| dir.is_dir() && access(*dir, AccessFlags::X_OK).is_ok();
    let found = dirs.into_iter().flatten().find(can_enter);
    found.unwrap_or(Path::new("/")).to_owned()
}

/// Whether both paths lead to the same directory.
pub fn is_same_dir(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// The directory that this process was started in, as `$PWD` names it if that is the same
/// directory: so a path through a symlink is followed again later (U17).
///
/// # Errors
/// The directory is gone, or cannot be read.
pub fn start_dir(pwd: Option<&OsStr>) -> io::Result<PathBuf> {
    match pwd.map(Path::new) {
        Some(path) if path.is_absolute() && is_same_dir(path, Path::new(".")) => {
            Ok(path.to_owned())
        }
        _ => std::env::current_dir(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_script_needs_its_interpreter() {
        let dir = tempfile::tempdir().expect("tempdir");
        let script = dir.path().join("script");
        let long = format!("#!/{}\n", "x".repeat(300));
        for (text, expected) in [
            ("#!/bin/sh\n", None),
            ("#! \t/bin/sh -e\nexit", None),
            ("#!/bin/sh", None),
            ("#!/nowhere/sh -e\n", Some("/nowhere/sh does not exist")),
            ("#!/nowhere/sh\r\n", Some("/nowhere/sh\\r does not exist")),
            ("#!/etc/passwd\n", Some("/etc/passwd may not be executed")),
            // Relative: the answer depends on the directory of the process that executes it.
            ("#!bin/sh\n", None),
            ("#!", None),
            ("", None),
            ("\u{7f}ELF", None),
        ] {
            fs::write(&script, text).expect("written");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("mode");
            let error = check(&script).err().map(|error| error.to_string());
            let expected = expected.map(|what| format!("its interpreter {what}"));
            assert_eq!(error, expected, "{text:?}");
        }
        fs::write(&script, long).expect("written");
        assert!(check(&script).is_err());
    }

    #[test]
    fn the_directory_is_resolved_and_the_last_component_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = fs::canonicalize(dir.path()).expect("real");
        fs::create_dir(root.join("one")).expect("dir");
        fs::write(root.join("one/real-app"), "#!/bin/sh\n").expect("file");
        fs::set_permissions(root.join("one/real-app"), fs::Permissions::from_mode(0o755))
            .expect("mode");
        symlink("real-app", root.join("one/app")).expect("symlink");
        symlink("one", root.join("current")).expect("symlink");
        let found = find(OsStr::new("./current/app"), &root, None).expect("found");
        assert_eq!(found, root.join("one/app"));
        let path = root.join("current");
        assert_eq!(
            find(OsStr::new("app"), Path::new("/"), Some(path.as_os_str())).expect("in PATH"),
            found
        );
        let missing =
            find(OsStr::new("nothing"), &root, Some(path.as_os_str())).expect_err("missing");
        assert_eq!(missing.raw_os_error(), Some(Errno::ENOENT as i32));
        fs::write(root.join("one/data"), "").expect("file");
        assert!(find(OsStr::new("./one/data"), &root, None).is_err());
        assert!(find(OsStr::new("./one"), &root, None).is_err());
    }
}
