//! How does a test get an initialised authority when `init` is not what it is about?
//!
//! The root's key is encrypted so that a guess at its passphrase costs something, and every `init` pays for that.
//! So one of a process runs, the real command, and the tests get copies of what it left: folder for folder and byte
//! for byte, but for the paths in the configurations, which are each copy's own. Copies have the same keys; a test
//! of two authorities makes the second one by [`House::of_its_own`](crate::house::House::of_its_own).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What `init` left, taken in.
pub struct Home {
    made_at: String,
    /// Folders before what is in them.
    parts: Vec<Part>,
}

struct Part {
    name: PathBuf,
    mode: u32,
    what: What,
}

enum What {
    Folder,
    /// Names places by their whole path, perhaps.
    Text(String),
    Bytes(Vec<u8>),
}

impl Home {
    pub fn take_in(dir: &Path) -> Self {
        let mut home = Self {
            made_at: dir.to_str().unwrap().to_owned(),
            parts: Vec::new(),
        };
        home.walk(dir, Path::new(""));
        home
    }

    /// A copy at `dir`, where nothing is yet.
    pub fn copy_to(&self, dir: &Path) {
        let own = dir.to_str().unwrap();
        for part in &self.parts {
            let path = dir.join(&part.name);
            match &part.what {
                What::Folder => fs::create_dir(&path).unwrap(),
                What::Text(text) => fs::write(&path, text.replace(&self.made_at, own)).unwrap(),
                What::Bytes(bytes) => fs::write(&path, bytes).unwrap(),
            }
            fs::set_permissions(&path, Permissions::from_mode(part.mode)).unwrap();
        }
    }

    fn walk(&mut self, dir: &Path, name: &Path) {
        let path = dir.join(name);
        let about = fs::symlink_metadata(&path).unwrap();
        assert!(about.is_dir() || about.is_file(), "{}", path.display());
        let what = match about.is_dir() {
            true => What::Folder,
            false => self.read(&path),
        };
        self.parts.push(Part {
            name: name.to_owned(),
            mode: about.permissions().mode(),
            what,
        });
        if about.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                self.walk(dir, &name.join(entry.unwrap().file_name()));
            }
        }
    }

    fn read(&self, path: &Path) -> What {
        match String::from_utf8(fs::read(path).unwrap()) {
            Ok(text) => What::Text(text),
            Err(other) => {
                let bytes = other.into_bytes();
                let place = self.made_at.as_bytes();
                let names_it = bytes.windows(place.len()).any(|it| it == place);
                assert!(!names_it, "{} would not move along", path.display());
                What::Bytes(bytes)
            }
        }
    }
}
