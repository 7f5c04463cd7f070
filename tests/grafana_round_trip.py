"""Reads dashboards through Grafana's own schema and back: a key that comes out no more is one Grafana does not know.

The schema is that of Grafana 11.6, the newest that the package carries (tests/install-tools.sh installs it).
Usage: grafana_round_trip.py FILE…; prints each lost or changed key, and ends with 1 if there is one.
"""

import json
import sys

from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(before, after, path):
    """What `before` says and `after` does not. Keys that the schema adds with their defaults are no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                # Grafana treats a null as an absent key.
                if value is not None:
                    yield f"{path}.{key} is lost"
            else:
                yield from differences(value, after[key], f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (left, right) in enumerate(zip(before, after)):
            yield from differences(left, right, f"{path}[{index}]")
    elif before != after:
        yield f"{path} was {before!r} and is {after!r}"


def main(files):
    plugins.register_default_plugins()
    faults = []
    for name in files:
        with open(name, encoding="utf-8") as file:
            before = json.load(file)
        after = json.loads(json.dumps(Dashboard.from_json(before), cls=encoder.JSONEncoder))
        faults += [f"{name}: {fault}" for fault in differences(before, after, "$")]
    print("\n".join(faults))
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
