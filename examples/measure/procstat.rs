//! Reads the CPU time and the memory of a process on Linux.

use std::{fs, time::Duration};

use crate::report::Outcome;

/// The unit of times in `/proc`, fixed on Linux: a hundredth of a second.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time of all threads so far, in user and kernel mode.
pub fn cpu(process: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, which ends at the last parenthesis, may contain spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("a stat file without a name")?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let (Some(user), Some(system)) = (times.next(), times.next()) else { return Err("a short stat file".into()) };
    Ok(TICK * (user? + system?))
}

/// The memory of a process in bytes.
pub struct Memory {
    /// The memory that is resident now.
    pub resident: f64,
    /// The peak since the start of the process, or since [`forget_peak`].
    pub peak: f64,
}

/// Returns the resident memory of a process.
pub fn memory(process: u32) -> Outcome<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes = |name: &str| -> Outcome<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("a status file without memory")?;
        let number = line.trim().trim_end_matches(" kB").parse::<f64>()?;
        Ok(number * 1024.0)
    };
    Ok(Memory { resident: kilobytes("VmRSS:")?, peak: kilobytes("VmHWM:")? })
}

/// Resets the peak of this process.
pub fn forget_peak() -> Outcome<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}
