//! USB: controllers, the tablet, devices passed through (reference 06a §7.9).

use super::builder::Builder;
use super::display::Display;
use super::error::CommandError;
use crate::config::{OsType, Props};

/// The highest number of a USB device.
const LAST_USB: u8 = 13;

/// The highest number on machines without the xHCI controller.
const LAST_OLD_USB: u8 = 4;

/// What a `usbN` key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Device {
    /// A port of the SPICE viewer's machine.
    Spice,
    /// A device by vendor and product.
    Id(String, String),
    /// A device by bus and port.
    Port(String, String),
}

impl Device {
    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("spice") {
            return Some(Self::Spice);
        }
        if let Some((vendor, product)) = text.split_once(':') {
            let hex = |text: &str| text.strip_prefix("0x").unwrap_or(text).to_lowercase();
            return Some(Self::Id(hex(vendor), hex(product)));
        }
        let (bus, port) = text.split_once('-')?;
        Some(Self::Port(bus.to_owned(), port.to_owned()))
    }
}

/// The USB side of a guest.
pub(super) struct Usb {
    devices: Vec<(u8, Device, bool)>,
    /// All devices sit on one xHCI controller.
    modern: bool,
}

impl Usb {
    pub(super) fn of(builder: &mut Builder<'_>, display: &Display) -> Result<Self, CommandError> {
        let vm = builder.request.vm;
        let system = match vm.ostype() {
            OsType::L26 => true,
            other => other.windows_at_least(8),
        };
        let modern = builder.machine.at_least(7, 1) && system;
        let mut devices = Vec::new();
        for (number, text) in vm.family("usb", LAST_USB) {
            let key = format!("usb{number}");
            let props = Props::parse(&key, text)?;
            let unsupported = CommandError::Unsupported {
                key,
                reason: "USB mappings are not available",
            };
            let device = props.get("host").and_then(Device::parse).ok_or(unsupported)?;
            if number > LAST_OLD_USB && !modern {
                return Err(CommandError::UsbNumber(number));
            }
            devices.push((number, device, props.flag("usb3").unwrap_or(false)));
        }
        if !display.spice && devices.iter().any(|(_, device, _)| *device == Device::Spice) {
            builder.note("USB redirection needs a SPICE display, ignoring");
            devices.retain(|(_, device, _)| *device != Device::Spice);
        }
        Ok(Self { devices, modern })
    }

    /// The controllers, and the tablet.
    pub(super) fn add_controllers(&self, builder: &mut Builder<'_>, display: &Display) {
        let q35 = builder.machine.is_q35();
        if !q35 {
            builder.device("piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2");
        }
        let (usb3, usb2) = (
            self.devices.iter().any(|device| device.2),
            self.devices.iter().any(|device| !device.2),
        );
        let address = if self.modern && !self.devices.is_empty() || usb3 {
            builder.pci.address("xhci")
        } else {
            String::new()
        };
        if self.modern {
            if !self.devices.is_empty() {
                builder.device(format!("qemu-xhci,p2=15,p3=15,id=xhci{address}"));
            }
        } else {
            if usb2 && !q35 {
                add_ich9(builder);
            }
            if usb3 {
                builder.device(format!("nec-usb-xhci,id=xhci{address}"));
            }
        }
        if builder.request.vm.flag("tablet", display.wants_tablet()) {
            let bus = if q35 { "ehci" } else { "uhci" };
            builder.device(format!("usb-tablet,id=tablet,bus={bus}.0,port=1"));
        }
    }

    /// The devices that are passed through.
    pub(super) fn add_devices(&self, builder: &mut Builder<'_>) {
        for (number, device, usb3) in &self.devices {
            let id = format!("usb{number}");
            let port = if self.modern {
                format!(",port={}", number + 1)
            } else {
                String::new()
            };
            let bus = if self.modern || *usb3 { ",bus=xhci.0" } else { "" };
            let boot = builder
                .boot_index(&id)
                .map(|index| format!(",bootindex={index}"))
                .unwrap_or_default();
            match device {
                Device::Spice => {
                    let bus = if self.modern || *usb3 { "xhci" } else { "ehci" };
                    builder.dev("-chardev", format!("spicevmc,id=usbredirchardev{number},name=usbredir"));
                    builder.device(format!(
                        "usb-redir,chardev=usbredirchardev{number},id=usbredirdev{number},bus={bus}.0{port}"
                    ));
                }
                Device::Id(vendor, product) => builder.device(format!(
                    "usb-host{bus}{port},vendorid=0x{vendor},productid=0x{product},id={id}{boot}"
                )),
                Device::Port(host_bus, host_port) => builder.device(format!(
                    "usb-host{bus}{port},hostbus={host_bus},hostport={host_port},id={id}{boot}"
                )),
            }
        }
    }
}

/// A USB 2 controller with its companions, for machines that have none.
fn add_ich9(builder: &mut Builder<'_>) {
    builder.device("ich9-usb-ehci1,id=ehci,multifunction=on,bus=pci.0,addr=0x1d.0x7");
    for function in 0..3 {
        let (number, port) = (function + 1, function * 2);
        builder.device(format!(
            "ich9-usb-uhci{number},id=uhci-{number},multifunction=on,bus=pci.0,addr=0x1d.0x{function},\
             masterbus=ehci.0,firstport={port}"
        ));
    }
}
