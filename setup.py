"""Packaging; configs and tools travel inside the package under ``.mim``, where OpenMMLab's tools look for them."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM = ("configs", "tools", "model-index.yml")


class BuildWithMim(build_py):
    """Copies configs and tools into the built package; an editable install reads them where they are."""

    def run(self) -> None:
        """Build the package, then add ``maskfeat_plugin/.mim``."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "maskfeat_plugin", ".mim")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, target / name)


def read_requirements(name: str) -> list[str]:
    """Requirements of a file in ``requirements/``, without comments."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_version() -> str:
    """The version, without importing the package and what it needs."""
    scope: dict[str, str] = {}
    exec((ROOT / "maskfeat_plugin" / "version.py").read_text(), scope)
    return scope["__version__"]


extras = {name: read_requirements(name) for name in ("demo", "tests", "web", "export", "features", "docs")}
extras["all"] = sum(extras.values(), [])
# not among "all": it would overwrite a compiled mmcv
extras["mmcv-lite"] = read_requirements("mmcv")
extras["mim"] = ["mmcv>=2.1.0,<2.2"]

setup(
    name="maskfeat_plugin",
    version=read_version(),
    description="MaskFeat pre-training for mmpretrain, mmaction2 and mmdet",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="MaskFeat, self-supervised learning, video recognition, OpenMMLab",
    packages=find_packages(include=["maskfeat_plugin", "maskfeat_plugin.*", "maskfeat_cli"]),
    python_requires=">=3.10",
    install_requires=read_requirements("runtime") + read_requirements("openmmlab"),
    extras_require=extras,
    entry_points={"console_scripts": ["maskfeat = maskfeat_cli:main"]},
    cmdclass={"build_py": BuildWithMim},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    zip_safe=False,
)
