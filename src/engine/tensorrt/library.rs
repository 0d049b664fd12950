//! NVIDIA's library, loaded when it is first asked for, with the shim that may drive it. Never unloaded.

use std::ffi::{CStr, OsStr, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::search;
use super::sys::{self, Api};
use super::version::{Flavour, Version};
use super::{cuda, log as forward};
use crate::error::{Error, Kind, Result};

/// A loaded TensorRT.
pub struct Library {
    api: &'static Api,
    entries: sys::Entries,
    version: Version,
    path: PathBuf,
    /// Bytes of the library's file, where it was found: tells builds apart that do not tell their number.
    file_bytes: Option<u64>,
}

// SAFETY: the pointers are a library's functions and a constant table; the library is never unloaded, and its entry points may be called
// from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The one that this process has loaded. TensorRT keeps global state (its logger), so there is no second.
static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);

impl Library {
    /// Loads TensorRT: the newest that this machine has and this program has a shim for, or just the one that is `wanted`. The first call
    /// decides for the whole process.
    ///
    /// # Errors
    /// [`Kind::Engine`] with what was searched for and where, or why what was found cannot be used.
    pub fn open(wanted: Option<Flavour>) -> Result<&'static Library> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = *loaded {
            if wanted.is_some_and(|flavour| flavour != library.version.flavour) {
                let message = format!("this process already runs {}, and cannot load another", library.version);
                return Err(Error::new(Kind::Engine, message));
            }
            return Ok(library);
        }
        let library = load(wanted, search::named_folder().as_deref())?;
        log::debug!("{} from {}", library.version, library.path.display());
        Ok(*loaded.insert(Box::leak(Box::new(library))))
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What a plan is tied to: the version with its build number, or, where TensorRT does not tell it, with the size of its file.
    pub fn identity(&self) -> String {
        match (self.version.build, self.file_bytes) {
            (None, Some(bytes)) => format!("{} ({bytes} bytes)", self.version),
            _ => self.version.to_string(),
        }
    }

    /// Where it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn api(&self) -> &'static Api {
        self.api
    }

    /// What a runtime needs, once the CUDA driver is up: without one some versions crash.
    ///
    /// # Errors
    /// As [`cuda::start`].
    pub(super) fn runtime_entries(&self) -> Result<sys::Entries> {
        cuda::start()?;
        Ok(self.entries)
    }

    /// What a build needs: the same, and the ONNX parser, which is loaded for it.
    ///
    /// # Errors
    /// [`Kind::Engine`] when there is no parser.
    pub(super) fn builder_entries(&self) -> Result<sys::Entries> {
        let name = self.version.flavour.parser();
        // The parser of the same release lies beside the library.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let (parser, _) = open_first(name, folder)
            .or_else(|beside| open_first(name, None).map_err(|_| beside))
            .map_err(|why| Error::new(Kind::Engine, format!("cannot load TensorRT's ONNX parser: {why}")))?;
        let create_parser = symbol(&parser, c"createNvOnnxParser_INTERNAL").map_err(|e| missing(name, &e))?;
        std::mem::forget(parser); // never unloaded
        Ok(sys::Entries { create_parser, ..self.entries })
    }

    /// The error that a failed call left behind; the message names `what` was being done.
    pub(super) fn failure(&self, kind: Kind, what: &str) -> Error {
        // SAFETY: gives text that ends with a zero, owned by this thread until its next failing call.
        let text = unsafe { CStr::from_ptr((self.api.last_message)()) };
        Error::new(kind, format!("{what}: {}: {}", self.version, text.to_string_lossy()))
    }
}

/// The shims that this program has.
pub fn shims() -> Vec<(Flavour, String)> {
    let shims = sys::shims().into_iter();
    shims
        .filter_map(|api| {
            let [major, minor, patch, build] = api.header_version;
            Some((Flavour::from_code(api.flavour)?, format!("{major}.{minor}.{patch}.{build}")))
        })
        .collect()
}

fn load(wanted: Option<Flavour>, only: Option<&Path>) -> Result<Library> {
    let shims = sys::shims();
    let mut tried = Vec::new();
    let mut unusable = Vec::new();
    for flavour in Flavour::ALL.into_iter().filter(|flavour| wanted.is_none_or(|wanted| wanted == *flavour)) {
        let api = shims.iter().find(|api| Flavour::from_code(api.flavour) == Some(flavour));
        match open_first(flavour.library(), only) {
            Err(why) => tried.push(why),
            Ok((_, path)) if api.is_none() => unusable.push(format!(
                "{} is {flavour}, for which this program has no shim: build it with TENSORRT_INCLUDE_DIR naming its headers",
                path.display()
            )),
            Ok((library, path)) => match api.map(|api| adopt(flavour, api, &library, path)) {
                Some(Ok(adopted)) => {
                    std::mem::forget(library); // never unloaded
                    return Ok(adopted);
                }
                Some(Err(why)) => unusable.push(why),
                None => {}
            },
        }
    }
    Err(not_found(shims.is_empty(), &unusable, &tried, &hint(wanted, only)))
}

/// Where the library comes from, or that just one folder was searched.
fn hint(wanted: Option<Flavour>, only: Option<&Path>) -> String {
    let variable = search::VARIABLE;
    match (only, wanted) {
        (Some(folder), _) => format!("searched only {} ({variable})", folder.display()),
        (None, Some(Flavour::Rtx)) => {
            format!(
                "`make tensorrt-rtx` in cfvit's sources fetches it into target/tensorrt-rtx; {variable} names its folder"
            )
        }
        (None, _) => format!("JetPack brings it (package tensorrt); {variable} names another folder"),
    }
}

/// One message of everything that went wrong, with a `hint` at what to do.
fn not_found(no_shim: bool, unusable: &[String], tried: &[String], hint: &str) -> Error {
    let no_headers = "this program was built without TensorRT's headers";
    let message = match (no_shim, unusable) {
        (true, []) => format!("{no_headers}, and found no library"),
        (true, found) => format!("{no_headers}: {}", found.join("; ")),
        (false, []) => format!("TensorRT not found: {}", tried.join("; ")),
        (false, found) => format!("TensorRT cannot be used: {}", found.join("; ")),
    };
    Error::new(Kind::Engine, format!("{message}. {hint}"))
}

/// Loads the first library of that name that can be; else says why none could.
fn open_first(name: &str, only: Option<&Path>) -> std::result::Result<(libloading::Library, PathBuf), String> {
    let mut why = None;
    for path in search::candidates(name, only) {
        // SAFETY: NVIDIA's library runs its initialisers, as it would for any program linked with it.
        match unsafe { libloading::os::unix::Library::open(Some(&path), libc::RTLD_NOW | libc::RTLD_GLOBAL) } {
            Ok(library) => return Ok((library.into(), path)),
            Err(e) => why = why.or(Some(loader_says(&e, &path))),
        }
    }
    Err(why.unwrap_or_else(|| format!("no {name}")))
}

/// The loader's message, short where the file is simply not there.
fn loader_says(error: &libloading::Error, path: &Path) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match text.starts_with(&format!("{}: cannot open shared object file", path.display())) {
        true => format!("no {}", path.display()),
        false => text,
    }
}

/// Checks that the shim may drive the library.
fn adopt(
    flavour: Flavour,
    api: &'static Api,
    library: &libloading::Library,
    path: PathBuf,
) -> std::result::Result<Library, String> {
    let shown = path.display().to_string();
    if api.abi != sys::ABI {
        return Err(format!(
            "the shim for {shown} has interface {}, this program {}: build it anew",
            api.abi,
            sys::ABI
        ));
    }
    let number = call_version(library, c"getInferLibVersion").map_err(|e| format!("{shown}: {e}"))?;
    let build = call_version(library, c"getInferLibBuildVersion").ok();
    let version = Version::decode(flavour, number, build);
    version.check_skew(&api.header_version).map_err(|why| format!("{shown}: {why}"))?;
    let entry = |name| symbol(library, name).map_err(|e| format!("{shown}: {e}"));
    let entries = sys::Entries {
        version: number,
        create_builder: entry(c"createInferBuilder_INTERNAL")?,
        create_runtime: entry(c"createInferRuntime_INTERNAL")?,
        create_parser: std::ptr::null_mut(),
    };
    // SAFETY: takes a function that may be called from any thread and does not unwind.
    unsafe { (api.set_log)(Some(forward::sink)) };
    let path = loaded_path(&path).unwrap_or(path);
    let file_bytes = path.metadata().ok().map(|file| file.len());
    Ok(Library { api, entries, version, path, file_bytes })
}

fn call_version(library: &libloading::Library, name: &CStr) -> std::result::Result<i32, String> {
    let function = symbol(library, name)?;
    // SAFETY: NVIDIA declares all functions of these names as `int32_t name()`.
    let function = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> i32>(function) };
    // SAFETY: as above; it only gives a constant.
    Ok(unsafe { function() })
}

fn symbol(library: &libloading::Library, name: &CStr) -> std::result::Result<*mut c_void, String> {
    // SAFETY: only the address is taken here; whoever calls it knows the type.
    let found = unsafe { library.get::<*mut c_void>(name.to_bytes_with_nul()).ok().and_then(|s| s.try_as_raw_ptr()) };
    found.filter(|address| !address.is_null()).ok_or_else(|| format!("it has no function {}", name.to_string_lossy()))
}

fn missing(library: &str, why: &str) -> Error {
    Error::new(Kind::Engine, format!("{library}: {why}"))
}

/// Where the loader found a library that was asked for by name.
fn loaded_path(asked: &Path) -> Option<PathBuf> {
    if asked.parent().is_some_and(|folder| !folder.as_os_str().is_empty()) {
        return asked.canonicalize().ok();
    }
    let name = asked.file_name()?;
    find_mapped(&std::fs::read_to_string("/proc/self/maps").ok()?, name)
}

/// The file in a list of memory maps whose name begins with `name`.
fn find_mapped(maps: &str, name: &OsStr) -> Option<PathBuf> {
    let name = name.to_str()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let mut found =
        paths.filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|file| file.starts_with(name)));
    found.next().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_folder_that_was_searched() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(None, Some(folder.path())).err().unwrap().to_string();
        assert!(error.contains(&folder.path().display().to_string()) && error.contains(search::VARIABLE), "{error}");
        let expected = if sys::shims().is_empty() { "without TensorRT's headers" } else { "no libnvinfer.so.10" };
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_an_error_with_the_loaders_words() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libnvinfer.so.10"), "not a library").unwrap();
        let error = open_first("libnvinfer.so.10", Some(folder.path())).err().unwrap();
        assert!(error.contains("file too short") || error.contains("invalid ELF header"), "{error}");
    }

    #[test]
    fn a_library_without_the_entry_points_is_refused_by_name() {
        let this: libloading::Library = libloading::os::unix::Library::this().into();
        let error = call_version(&this, c"getInferLibVersion").unwrap_err();
        assert_eq!(error, "it has no function getInferLibVersion");
    }

    #[test]
    fn the_mapped_file_is_found_by_the_beginning_of_its_name() {
        let maps = "7f00-7f01 r--p 00000000 08:01 12   /usr/lib/libc.so.6\n7f02-7f03 r-xp 0 08:01 13 /usr/lib/libnvinfer.so.8.5.2\n";
        let found = find_mapped(maps, OsStr::new("libnvinfer.so.8"));
        assert_eq!(found.as_deref(), Some(Path::new("/usr/lib/libnvinfer.so.8.5.2")));
        assert_eq!(find_mapped(maps, OsStr::new("libnvinfer.so.10")), None);
    }
}
