"""The machine in the header and in pytest-benchmark's files."""
from tinydl.benchmarks import machine


def pytest_report_header():
    return machine.line(machine.describe())


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["tinydl"] = machine.describe()
