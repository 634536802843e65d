//! Memory and NUMA nodes (reference 06a §7.5).

use super::cpu::Cpu;
use super::error::CommandError;
use super::facts::Request;
use crate::config::{Feature, Props};

/// What a guest with memory hotplug starts with, in MiB.
const STATIC_MEMORY: u64 = 1024;

/// The most that can be plugged in, in MiB.
const MAX_HOTPLUG: u64 = 4_194_304;

/// Address bits where the host's are unknown.
const DEFAULT_BITS: u64 = 36;

/// Address bits that a guest gets which does not see the host's processor.
const GUEST_BITS: u64 = 40;

/// The highest number of a NUMA node.
const LAST_NUMA: u8 = 7;

/// `-m` and what comes with it.
pub(super) fn arguments(request: &Request<'_>, cpu: &Cpu) -> Result<Vec<String>, CommandError> {
    let plan = Plan::of(request, cpu)?;
    let mut arguments = vec!["-m".to_owned(), plan.size()];
    arguments.extend(plan.nodes()?);
    arguments.extend(plan.modules()?);
    Ok(arguments)
}

struct Plan<'a> {
    request: &'a Request<'a>,
    memory: u64,
    sockets: u64,
    numa: bool,
    hugepages: Option<&'a str>,
    /// The most that can be plugged in, with memory hotplug.
    max: Option<u64>,
    /// What the guest starts with.
    fixed: u64,
    custom: Vec<(u8, Props)>,
}

impl<'a> Plan<'a> {
    fn of(request: &'a Request<'a>, cpu: &Cpu) -> Result<Self, CommandError> {
        let vm = request.vm;
        let (memory, sockets, numa) = (vm.memory(), vm.sockets(), vm.flag("numa", false));
        let custom = vm
            .family("numa", LAST_NUMA)
            .map(|(number, text)| Ok((number, Props::parse(&format!("numa{number}"), text)?)))
            .collect::<Result<Vec<_>, CommandError>>()?;
        let hugepages = vm.get("hugepages");
        if hugepages.is_some() && !numa {
            return Err(CommandError::HugepagesNeedNuma);
        }
        let max = vm
            .hotplug()
            .contains(&Feature::Memory)
            .then(|| max_memory(request, cpu));
        let gigantic = hugepages == Some("1024");
        let fixed = match max {
            None => memory,
            Some(_) if !numa => return Err(CommandError::HotplugNeedsNuma),
            Some(_) if !custom.is_empty() => return Err(CommandError::HotplugCustomNuma),
            Some(_) => STATIC_MEMORY * if gigantic { sockets } else { 1 },
        };
        if memory < fixed {
            return Err(CommandError::MinimumMemory(fixed));
        }
        match max {
            Some(max) if memory > max => Err(CommandError::MemoryMaximum { size: memory, max }),
            _ => Ok(Self {
                request,
                memory,
                sockets,
                numa,
                hugepages,
                max,
                fixed,
                custom,
            }),
        }
    }

    fn size(&self) -> String {
        match self.max {
            Some(max) => format!("size={},slots=255,maxmem={max}M", self.fixed),
            None => self.memory.to_string(),
        }
    }

    fn nodes(&self) -> Result<Vec<String>, CommandError> {
        if !self.numa {
            return Ok(Vec::new());
        }
        if self.custom.is_empty() {
            return Ok(self.socket_nodes());
        }
        self.custom_nodes()
    }

    /// One node per socket.
    fn socket_nodes(&self) -> Vec<String> {
        let cores = self.request.vm.cores();
        let share = self.fixed / self.sockets;
        let mut arguments = Vec::new();
        for node in 0..self.sockets {
            // The last node takes what does not divide: QEMU wants the sum to be exact.
            let rest = if node + 1 == self.sockets {
                self.fixed % self.sockets
            } else {
                0
            };
            let (first, last) = (node * cores, (node + 1) * cores - 1);
            let cpus = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            let backend = self.backend(&format!("ram-node{node}"), share + rest);
            arguments.extend(node_arguments(&backend, &node.to_string(), &format!("cpus={cpus}")));
        }
        arguments
    }

    /// The nodes of the config.
    fn custom_nodes(&self) -> Result<Vec<String>, CommandError> {
        let mut arguments = Vec::new();
        let mut total = 0;
        for (number, node) in &self.custom {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let memory = node
                .number("memory")
                .map(|mib| mib as u64)
                .ok_or(CommandError::NumaMemory(*number))?;
            total += memory;
            let mut backend = self.backend(&format!("ram-node{number}"), memory);
            if let Some(nodes) = node.get("hostnodes") {
                let policy = node
                    .get("policy")
                    .ok_or_else(|| CommandError::NumaPolicy(nodes.to_owned()))?;
                backend = format!("{backend},{},policy={policy}", each("host-nodes", nodes));
            }
            let cpus = each("cpus", node.get("cpus").unwrap_or_default());
            arguments.extend(node_arguments(&backend, &number.to_string(), &cpus));
        }
        if total == self.fixed {
            Ok(arguments)
        } else {
            Err(CommandError::NumaTotal)
        }
    }

    /// The modules that are plugged in from the start.
    fn modules(&self) -> Result<Vec<String>, CommandError> {
        let mut arguments = Vec::new();
        if self.max.is_none() {
            return Ok(arguments);
        }
        for module in modules(self.fixed, self.memory, self.sockets, self.hugepages == Some("1024"))? {
            let Module { number, size, node } = module;
            arguments.push("-object".to_owned());
            arguments.push(self.backend(&format!("mem-dimm{number}"), size));
            arguments.push("-device".to_owned());
            arguments.push(format!("pc-dimm,id=dimm{number},memdev=mem-dimm{number},node={node}"));
        }
        Ok(arguments)
    }

    /// A memory backend of so many MiB.
    fn backend(&self, id: &str, size: u64) -> String {
        match self.hugepages {
            None => format!("memory-backend-ram,id={id},size={size}M"),
            Some(setting) => {
                let gigantic = setting == "1024" || (setting == "any" && size.is_multiple_of(1024));
                let kib = if gigantic { 1_048_576 } else { 2048 };
                let path = format!("/run/hugepages/kvm/{kib}kB");
                format!("memory-backend-file,id={id},size={size}M,mem-path={path},share=on,prealloc=yes")
            }
        }
    }
}

fn node_arguments(backend: &str, node: &str, cpus: &str) -> [String; 4] {
    let id = backend
        .split(',')
        .find_map(|part| part.strip_prefix("id="))
        .unwrap_or_default();
    [
        "-object".to_owned(),
        backend.to_owned(),
        "-numa".to_owned(),
        format!("node,nodeid={node},{cpus},memdev={id}"),
    ]
}

/// `cpus=2;3` as `cpus=2,cpus=3`.
fn each(name: &str, list: &str) -> String {
    list.split(';')
        .map(|part| format!("{name}={part}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The most that can be plugged in, in MiB.
fn max_memory(request: &Request<'_>, cpu: &Cpu) -> u64 {
    let host = request.host.physical_bits;
    let bits = match cpu.physical_bits() {
        Some("host") => host.unwrap_or(DEFAULT_BITS),
        Some(bits) => bits.parse().unwrap_or(DEFAULT_BITS),
        None if cpu.is_host() => host.unwrap_or(DEFAULT_BITS),
        None => host.map_or(DEFAULT_BITS, |bits| bits.min(GUEST_BITS)),
    };
    let even = bits - bits % 2;
    1_u64
        .checked_shl(u32::try_from(even.saturating_sub(21)).unwrap_or(u32::MAX))
        .unwrap_or(MAX_HOTPLUG)
        .min(MAX_HOTPLUG)
}

/// A memory module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// Its number.
    pub number: u64,
    /// Its size in MiB.
    pub size: u64,
    /// The NUMA node that it belongs to.
    pub node: u64,
}

/// The modules that make a guest's memory grow from one size to another (MiB): 32 of 512 MiB (1 GiB with pages of
/// that size), 32 of twice that, and so on, over the NUMA nodes in turn.
///
/// # Errors
/// [`CommandError::MemoryAlignment`]
pub fn modules(from: u64, to: u64, nodes: u64, gigantic: bool) -> Result<Vec<Module>, CommandError> {
    let mut list = Vec::new();
    let (mut current, mut size) = (from, if gigantic { 1024 } else { 512 });
    for round in 0..8 {
        for place in 0..32 {
            if current >= to {
                return Ok(list);
            }
            if current + size > to {
                return Err(CommandError::MemoryAlignment { size: to, step: size });
            }
            current += size;
            list.push(Module {
                number: round * 32 + place,
                size,
                node: place % nodes.max(1),
            });
        }
        size *= 2;
    }
    Ok(list)
}
