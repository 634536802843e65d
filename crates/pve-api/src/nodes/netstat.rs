//! `GET /nodes/{node}/netstat` (reference 04 §14.4): what went through the network cards of the node's guests.

use pve_guest::interface::GuestInterface;
use pve_node::status::Interface;
use pve_node::status::network::interfaces;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::Site;
use serde_json::{Value, json};

pub(super) async fn netstat(call: Call) -> ApiResult {
    blocking(move || Ok::<_, ApiError>(Value::from(rows(&call.context.site, interfaces())).into())).await
}

/// A row per host's end of a guest's card, by its name. What the host sends is what the guest receives.
fn rows(site: &Site, mut interfaces: Vec<Interface>) -> Vec<Value> {
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |interface: &Interface| {
        let guest = GuestInterface::parse(site, &interface.name)?;
        Some(json!({
            "vmid": guest.vmid.to_string(),
            "dev": format!("net{}", guest.number),
            "in": interface.traffic.sent.to_string(),
            "out": interface.traffic.received.to_string(),
        }))
    };
    interfaces.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use pve_node::status::Traffic;

    use super::*;

    #[test]
    fn guests_see_the_other_direction() {
        let site = pve_testing::site("/", "pve1");
        let names = ["veth101i0", "lo", "tap100i1", "tap100i0", "vmbr0", "k3xtap100i2"];
        let interfaces = names.iter().zip(1..).map(|(name, number)| Interface {
            name: (*name).to_owned(),
            traffic: Traffic {
                received: number,
                sent: 10 * number,
            },
        });
        let expected = json!([
            { "vmid": "100", "dev": "net0", "in": "40", "out": "4" },
            { "vmid": "100", "dev": "net1", "in": "30", "out": "3" },
            { "vmid": "101", "dev": "net0", "in": "10", "out": "1" },
        ]);
        assert_eq!(Value::from(rows(&site, interfaces.collect())), expected);
    }
}
