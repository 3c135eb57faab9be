"""The packages of the wheel; everything else about it is in pyproject.toml.

conf/ stands at the top of the checkout and travels inside the wheel, as launcher/conf.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["launcher", "launcher.*", "attention_backends", "attention_backends.*"]),
        "launcher.conf",
    ],
    package_dir={"launcher.conf": "conf"},
)
