//! What the parts of a command line are collected in.

use std::collections::BTreeMap;

use super::facts::Request;
use super::machine::RunningMachine;
use super::pci::Pci;

/// The arguments so far: a fixed part, and behind it the devices.
pub(super) struct Builder<'a> {
    pub(super) request: Request<'a>,
    pub(super) machine: RunningMachine,
    pub(super) pci: Pci,
    fixed: Vec<String>,
    devices: Vec<String>,
    notes: Vec<String>,
    boot: BTreeMap<String, u32>,
    /// What stands before `type=` in the `-machine` argument.
    pub(super) machine_front: Vec<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(request: Request<'a>, machine: RunningMachine) -> Self {
        Self {
            pci: Pci::new(machine.kind.chipset),
            boot: crate::config::boot::boot_indices(request.vm),
            request,
            machine,
            fixed: Vec::new(),
            devices: Vec::new(),
            notes: Vec::new(),
            machine_front: Vec::new(),
        }
    }

    /// Adds to the fixed part.
    pub(super) fn fixed<T: Into<String>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.fixed.extend(words.into_iter().map(Into::into));
    }

    /// Adds an option with its value to the devices.
    pub(super) fn dev(&mut self, option: &str, value: impl Into<String>) {
        self.devices.push(option.to_owned());
        self.devices.push(value.into());
    }

    /// Adds a `-device`.
    pub(super) fn device(&mut self, value: impl Into<String>) {
        self.dev("-device", value);
    }

    /// Adds a line for the task log; once is enough.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The place of a device in the boot order.
    pub(super) fn boot_index(&self, device: &str) -> Option<u32> {
        self.boot.get(device).copied()
    }

    /// The arguments and the notes: the bridges, known only now, come before all other devices.
    pub(super) fn finish(mut self, last: Vec<String>) -> (Vec<String>, Vec<String>) {
        let front = self.front_devices();
        let mut arguments = self.fixed;
        arguments.extend(front.into_iter().flat_map(|device| ["-device".to_owned(), device]));
        arguments.append(&mut self.devices);
        arguments.extend(last);
        (arguments, self.notes)
    }

    /// The vIOMMU, the bridges, and on Q35 the buses: QEMU wants a bus before the devices on it.
    fn front_devices(&self) -> Vec<String> {
        let mut front = Vec::new();
        if let Ok(machine) = self.request.vm.machine()
            && machine.viommu == Some(crate::config::Viommu::Intel)
        {
            let bits = machine
                .address_bits
                .map(|bits| format!(",aw-bits={bits}"))
                .unwrap_or_default();
            front.push(format!("intel-iommu,intremap=on,caching-mode=on{bits}"));
        }
        if self.machine.is_q35() {
            front.extend(super::pci::q35_devices());
        }
        front.extend(self.pci.bridges());
        front
    }
}
