//! How much memory there is to keep things in.

use std::fs;

use crate::mlx::{self, DeviceKind};

/// What there is at least where the system does not say.
const UNKNOWN: usize = 4 << 30;

/// The most bytes that are kept of what sequences have read, where nobody says: a quarter of what
/// a model's weights leave of the memory, from 64 MiB to 8 GiB.
pub fn prefix_cache_bytes(device: DeviceKind, weights: usize) -> usize {
    let known = mlx::device_memory(device);
    let memory = match device {
        DeviceKind::Gpu => known,
        DeviceKind::Cpu => available().or(known),
    };
    (memory.unwrap_or(UNKNOWN).saturating_sub(weights) / 4).clamp(64 << 20, 8 << 30)
}

/// The bytes that the system could give, or those of the container; known on Linux.
fn available() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(usize::MAX);
    Some(kibibytes.saturating_mul(1024).min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_is_left_whatever_the_weights_take() {
        for device in [DeviceKind::Cpu, DeviceKind::Gpu] {
            assert_eq!(prefix_cache_bytes(device, usize::MAX), 64 << 20);
            let bytes = prefix_cache_bytes(device, 0);
            assert!((64 << 20..=8 << 30).contains(&bytes), "{bytes}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_says_what_it_could_give() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
