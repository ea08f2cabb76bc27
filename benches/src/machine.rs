//! What a figure was measured on: without it a figure means nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result};
use serde::Serialize;

/// Cores, processor, memory, kernel and disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    memory_bytes: u64,
    kernel: String,
    /// Median time to make 8 KiB durable where the data directories lie. A figure of a disk without a cache that lies
    /// is 500 µs and more: a commit pays this once.
    fdatasync_us: f64,
}

impl Machine {
    /// Looks at this machine; `dir` is where data directories will lie.
    pub(crate) fn look(dir: &Path) -> Result<Self> {
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: field("/proc/cpuinfo", "model name")?,
            memory_bytes: kib("/proc/meminfo", "MemTotal")? << 10,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            fdatasync_us: fdatasync_us(dir)?,
        })
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} x {}, {} GiB, Linux {}, fdatasync of 8 KiB {:.0} us",
            self.cores,
            self.cpu,
            self.memory_bytes >> 30,
            self.kernel,
            self.fdatasync_us
        )
    }
}

/// The value of `name : value` in a file of /proc.
fn field(path: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    value.map(|(_, value)| value.trim().to_owned()).with_context(|| format!("{path} has no {name}"))
}

/// A field that counts KiB, such as `VmHWM:  1234 kB`.
pub(crate) fn kib(path: &str, name: &str) -> Result<u64> {
    let value = field(path, name)?;
    let number = value.split_whitespace().next().unwrap_or_default();
    number.parse().with_context(|| format!("{path}: {name} is {value:?}"))
}

fn fdatasync_us(dir: &Path) -> Result<f64> {
    let mut file = File::create(dir.join("fdatasync.probe"))?;
    let mut micros = Vec::new();
    for _ in 0..100 {
        file.write_all(&[7; 8192])?;
        let start = Instant::now();
        file.sync_data()?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(crate::report::median(&mut micros))
}
