"""The description of the API for machines, as a generator of clients fetches and checks it."""

import requests
from openapi_spec_validator import validate


def test_the_description_is_valid_and_public(lab):
    session = requests.Session()
    session.trust_env = False
    answer = session.get(f"{lab.url}/api2/openapi.json", verify=False, timeout=30)
    assert answer.headers["Content-Encoding"] == "gzip"
    description = answer.json()
    validate(description)
    assert description["info"]["version"].startswith("9.2.")
    plain = session.get(f"{lab.url}/api2/openapi.json", verify=False, timeout=30, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers and plain.json() == description
    assert session.post(f"{lab.url}/api2/openapi.json", verify=False, timeout=30).status_code == 501
