//! What processes use, as the kernel counts it.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result};

use crate::machine;

/// Ticks a second of the times in /proc: a constant of the kernel's interface (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds of a process, of all processes below it, and of those of them that have ended.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut below: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
    let mut ticks = None;
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended meanwhile.
        let Some((parent, own, ended)) = stat(id) else { continue };
        below.entry(parent).or_default().push((id, own));
        if id == pid {
            ticks = Some(own + ended);
        }
    }
    let mut ticks = ticks.with_context(|| format!("process {pid} has ended"))?;
    let mut open = vec![pid];
    while let Some(id) = open.pop() {
        for &(child, own) in below.get(&id).into_iter().flatten() {
            ticks += own;
            open.push(child);
        }
    }
    Ok(ticks as f64 / TICKS_PER_S)
}

/// CPU seconds of this process alone.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    let (_, own, _) = stat(std::process::id()).context("/proc has no entry of this process")?;
    Ok(own as f64 / TICKS_PER_S)
}

/// Parent, own ticks, and ticks of children that were waited for.
fn stat(pid: u32) -> Option<(u32, u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows are numbers, the first of which is field 3.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((u32::try_from(field(4)?).ok()?, field(14)? + field(15)?, field(16)? + field(17)?))
}

/// Resident memory of a process now.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(machine::kib(&format!("/proc/{pid}/status"), "VmRSS")? << 10)
}

/// The most resident memory that a process ever had.
pub(crate) fn peak_resident_bytes(pid: u32) -> Result<u64> {
    Ok(machine::kib(&format!("/proc/{pid}/status"), "VmHWM")? << 10)
}
