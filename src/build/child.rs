//! The process that builds one plan and ends: building takes far more memory than running, and only a process that ends gives all of it
//! back. It is this program, called as `cfvit build-plan`; it answers with one line of JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Failure, Job, Made, device};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::Model;
use crate::model::onnx::{Graph, Precision};
use crate::plan::DeviceKey;

/// What the child is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The ONNX file.
    pub onnx: PathBuf,
    /// Where the plan goes.
    pub plan: PathBuf,
    /// The folder of the timing caches.
    pub caches: PathBuf,
    /// What the graph was exported in.
    pub precision: Precision,
    /// Scratch space in MiB.
    pub workspace_mib: u64,
    /// 0 to 5.
    pub optimisation_level: Option<u8>,
    /// The GPU to build for, 86 for SM 8.6; this machine's when `None`.
    pub target: Option<u32>,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The plan is written.
    Built {
        /// What it was built for.
        device: DeviceKey,
        /// How long it took, in seconds.
        seconds: f64,
        /// The most memory that the process had, in MiB.
        peak_mib: u64,
    },
    /// It could not be built.
    Failed {
        /// Why.
        message: String,
        /// Whether less scratch space may help.
        retry: bool,
    },
}

/// The child's side: builds the plan and writes it.
pub fn serve(order: &Order) -> Answer {
    let start = Instant::now();
    match device::build_one(order) {
        Ok(device) => {
            Answer::Built { device, seconds: start.elapsed().as_secs_f64(), peak_mib: peak_mib().unwrap_or(0) }
        }
        // Only the builder itself can run out of memory; what the parser refuses stays refused.
        Err(error) => {
            let message = error.to_string();
            Answer::Failed { retry: message.contains("buildSerializedNetwork"), message }
        }
    }
}

/// The most memory that this process has had so far, in MiB.
fn peak_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// The parent's side: builds plans in children, and opens them on this machine's GPU.
pub struct Builder {
    package: PathBuf,
    target: Option<u32>,
    scratch: tempfile::TempDir,
}

impl Builder {
    /// For plans of the package in the folder `package`; for the GPU `target` (86 is SM 8.6) when there is one.
    ///
    /// # Errors
    /// [`Kind::Io`] when the folder cannot be written.
    pub fn new(package: &Path, target: Option<u32>) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix(".build-").tempdir_in(package);
        let scratch =
            scratch.map_err(|e| Error::caused(Kind::Io, format!("cannot write to {}", package.display()), e))?;
        Ok(Self { package: package.into(), target, scratch })
    }

    fn command(&self, job: &Job<'_>, plan: &Path) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("build-plan").arg("--onnx").arg(job.onnx).arg("--plan").arg(plan);
        command.arg("--caches").arg(&self.package).args(["--precision", job.precision.as_str()]);
        command.args(["--workspace", &job.workspace_mib.to_string()]);
        if let Some(level) = job.optimisation_level {
            command.args(["--optimisation-level", &level.to_string()]);
        }
        if let Some(target) = self.target {
            command.args(["--target", &format!("sm{target}")]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped());
        Ok(command)
    }
}

impl super::Builder for Builder {
    fn build(&mut self, job: &Job<'_>) -> std::result::Result<Made, Failure> {
        let plan = self.scratch.path().join(format!("{}.plan", job.graph.as_str()));
        let output = self.command(job, &plan).and_then(|mut command| command.output());
        let output = output.map_err(|e| fatal(Error::caused(Kind::Io, "cannot start the building process", e)))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str(&answer) {
            Ok(Answer::Built { device, seconds, peak_mib }) => {
                let plan = fs::read(&plan).map_err(|e| fatal(Error::caused(Kind::Io, "cannot read the plan", e)))?;
                Ok(Made { plan, device, seconds, peak_mib })
            }
            Ok(Answer::Failed { message, retry }) => Err(Failure { error: Error::new(Kind::Engine, message), retry }),
            Err(_) => Err(Failure { error: died(output.status), retry: true }),
        }
    }

    fn open(&mut self, plans: &[(Graph, &[u8])], model: &Model) -> Result<Option<Box<dyn Engine>>> {
        if self.target.is_some() {
            return Ok(None);
        }
        device::open(plans, &model.geometry).map(Some)
    }
}

fn fatal(error: Error) -> Failure {
    Failure { error, retry: false }
}

/// What an answer that never came means.
fn died(status: std::process::ExitStatus) -> Error {
    use std::os::unix::process::ExitStatusExt;
    let message = match status.signal() {
        Some(libc::SIGKILL) => {
            "the building process was killed; most likely memory ran out (close the desktop, add swap)".into()
        }
        Some(signal) => format!("the building process died of signal {signal}"),
        None => format!("the building process ended without an answer ({status})"),
    };
    Error::new(Kind::Engine, message)
}
