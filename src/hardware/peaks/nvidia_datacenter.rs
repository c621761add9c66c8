use super::DevicePeaks;
pub(super) const DEVICES: &[DevicePeaks] = &[];
