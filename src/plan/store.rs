//! Plans in an engine package: installing, loading, putting aside.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::{self, Header};
use super::key::{DeviceKey, Key};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::onnx::Graph;
use crate::model::package;

/// Longer files are not read: no plan of these models comes near it.
const MAX_BYTES: u64 = 2 << 30;

/// A plan that fits this device.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is tied to.
    pub key: Key,
    /// TensorRT's bytes are these, from [`Plan::bytes`].
    file: Vec<u8>,
    start: usize,
    set: String,
}

impl Plan {
    /// What TensorRT deserialises.
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.start..]
    }
}

/// The plans of one build.
#[derive(Clone, Debug)]
pub struct Plans {
    /// The coarse stage's.
    pub coarse: Plan,
    /// The fine stage's.
    pub fine: Plan,
    /// The static baseline's, where it was built.
    pub full: Option<Plan>,
}

/// Where a package keeps the plan of `graph`.
pub fn path(package: &Path, graph: Graph) -> PathBuf {
    package.join(format!("{}.plan", graph.as_str()))
}

/// Installs the plans of one build: all are written beside their places and synced before the first is moved there. Whatever a crash in
/// between leaves, [`load_all`] does not take plans of two builds for one. A plan that the build does not have is removed.
///
/// # Errors
/// [`Kind::Io`] when one cannot be written; the old ones are untouched then.
pub fn install(package: &Path, plans: &[(Graph, Key, Vec<u8>)]) -> Result<()> {
    let sums = plans.iter().map(|(_, _, plan)| files::sha256(plan)).collect::<Vec<_>>().join(" ");
    let set = files::sha256(sums.as_bytes());
    let mut staged = Vec::new();
    for (graph, key, plan) in plans {
        let target = path(package, *graph);
        let header = file::header(key, &set, plan)?;
        let temporary = Staged(files::beside(&target));
        let written = File::create(&temporary.0).and_then(|mut file| {
            file.write_all(&header)?;
            file.write_all(plan)?;
            file.sync_all()
        });
        written.map_err(|e| Error::caused(Kind::Io, format!("cannot write {}", target.display()), e))?;
        staged.push((temporary, target));
    }
    for (temporary, target) in &staged {
        fs::rename(&temporary.0, target)
            .map_err(|e| Error::caused(Kind::Io, format!("cannot write {}", target.display()), e))?;
    }
    for graph in [Graph::Coarse, Graph::Fine, Graph::Static] {
        if plans.iter().all(|(built, ..)| *built != graph) {
            // Not there is as good as removed.
            let _ = fs::remove_file(path(package, graph));
        }
    }
    files::sync_folder(&package.join("."));
    Ok(())
}

/// A file that goes when it is dropped, unless it was renamed before.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        // Not there any more: it has become the plan.
        let _ = fs::remove_file(&self.0);
    }
}

/// Loads the plan of `graph` from `package`, if it was built for the package's weights and for `device`.
///
/// # Errors
/// [`Kind::Model`] when there is none, when its key differs (naming both values), or when it is damaged: then it is put aside as well. Each
/// says the command that mends it.
pub fn load(package: &Path, graph: Graph, device: &DeviceKey) -> Result<Plan> {
    let weights = package::weights(package)?;
    let path = path(package, graph);
    let named = |e: Error| mending(e.within(path.display().to_string()), package);
    let file = read(&path).map_err(named)?;
    let split =
        file::split(&file).and_then(|(header, plan)| file::verify(&header, plan).map(|()| (header, plan.len())));
    let (Header { key, set, .. }, length) = match split {
        Ok(whole) => whole,
        Err(damage) => return Err(named(put_aside(damage, package, graph))),
    };
    key.check(graph.as_str(), &weights, device).map_err(named)?;
    Ok(Plan { key, start: file.len() - length, file, set })
}

/// Loads all plans of the last build from `package`.
///
/// # Errors
/// As [`load`], or when the plans are of two builds.
pub fn load_all(package: &Path, device: &DeviceKey) -> Result<Plans> {
    let coarse = load(package, Graph::Coarse, device)?;
    let fine = load(package, Graph::Fine, device)?;
    let full = match path(package, Graph::Static).exists() {
        true => Some(load(package, Graph::Static, device)?),
        false => None,
    };
    for (plan, graph) in [(Some(&fine), Graph::Fine), (full.as_ref(), Graph::Static)] {
        if plan.is_some_and(|plan| plan.set != coarse.set) {
            let path = path(package, graph);
            let message = format!("{}: of another build than coarse.plan", path.display());
            return Err(mending(Error::new(Kind::Model, message), package));
        }
    }
    Ok(Plans { coarse, fine, full })
}

/// Whether `package` has plans that would load on `device`, without putting anything aside; if not, why.
///
/// # Errors
/// As [`load_all`].
pub fn state(package: &Path, device: &DeviceKey) -> Result<Key> {
    let weights = package::weights(package)?;
    let header = |graph: Graph| {
        let path = path(package, graph);
        let checked = read(&path).and_then(|file| {
            let (header, plan) = file::split(&file)?;
            file::verify(&header, plan)?;
            header.key.check(graph.as_str(), &weights, device)?;
            Ok(header)
        });
        checked.map_err(|e| mending(e.within(path.display().to_string()), package))
    };
    let (coarse, fine) = (header(Graph::Coarse)?, header(Graph::Fine)?);
    if coarse.set != fine.set {
        return Err(mending(Error::new(Kind::Model, "coarse.plan and fine.plan are of two builds"), package));
    }
    Ok(coarse.key)
}

/// Puts the plan of `graph` aside, as `….plan.bad`, and gives its new place. For plans that TensorRT refuses to load.
///
/// # Errors
/// [`Kind::Io`] when it cannot be renamed.
pub fn quarantine(package: &Path, graph: Graph) -> Result<PathBuf> {
    let path = path(package, graph);
    let aside = path.with_extension("plan.bad");
    fs::rename(&path, &aside)
        .map_err(|e| Error::caused(Kind::Io, format!("cannot put {} aside", path.display()), e))?;
    files::sync_folder(&path);
    Ok(aside)
}

fn put_aside(damage: Error, package: &Path, graph: Graph) -> Error {
    let outcome = match quarantine(package, graph) {
        Ok(aside) => format!("put aside as {}", aside.display()),
        Err(error) => error.to_string(),
    };
    Error::new(damage.kind(), format!("{damage}; {outcome}"))
}

/// The same error with the command that mends it.
fn mending(error: Error, package: &Path) -> Error {
    let kind = error.kind();
    Error::new(kind, format!("{error}. `cfvit build --model {}` builds it anew", package.display()))
}

/// Reads a plan file. Plans are programs for the GPU, so nobody else may have written it.
fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = path.metadata().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::Model, "not built yet"),
        _ => Error::caused(Kind::Io, "cannot be read", e),
    })?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Error::new(Kind::Model, "no plain file of at most 2 GiB"));
    }
    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if (owner != 0 && owner != me) || metadata.mode() & 0o002 != 0 {
        let message = format!(
            "it belongs to user {owner} or can be written by everybody; a plan is executable content, so it must be this user's ({me}) or root's"
        );
        return Err(Error::new(Kind::Model, message));
    }
    fs::read(path).map_err(|e| Error::caused(Kind::Io, "cannot be read", e))
}
