"""Packaging of the project. Configs and tools go into the package's folder ``.mim``, where OpenMMLab's tools look."""

import re
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

ROOT = Path(__file__).resolve().parent
PACKAGES = find_packages(include=["maskfeat_plugin", "maskfeat_plugin.*", "maskfeat_cli"])
MIM = ("configs", "tools", "model-index.yml")
# Tools that import projects/ or set up a checkout
CHECKOUT_TOOLS = (
    "ablate.py",
    "benchmark.py",
    "benchmark_archive.py",
    "check_prose.py",
    "demo.py",
    "draw_concepts.py",
    "draw_masks.py",
    "write_model_index.py",
    "docs",
    "setup",
)
# Scheme that marks relative links of the README, which do not work on the package index, and a pattern for them
RELATIVE = "relative"
RELATIVE_LINK = re.compile(rf"!?\[([^][]*)\]\({RELATIVE}:[^)]*\)")


class BuildWithMim(build_py):
    """Build command that copies configs and tools into the package. An editable install reads the original files."""

    def run(self) -> None:
        """Build the package, then add ``maskfeat_plugin/.mim``."""
        if self.editable_mode:
            super().run()
            return
        for package in PACKAGES:  # remove files of an earlier build
            shutil.rmtree(Path(self.build_lib, *package.split(".")), ignore_errors=True)
        super().run()
        target = Path(self.build_lib, "maskfeat_plugin", ".mim")
        target.mkdir()
        for name in MIM:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", *CHECKOUT_TOOLS)
                )
            else:
                shutil.copy(ROOT / name, target / name)


class EggInfoForMim(egg_info):
    """Metadata that name the package with the configs first. ``mim list`` looks into the first package only."""

    def run(self) -> None:
        """Write the metadata, then sort the names of the packages."""
        super().run()
        names = Path(self.egg_info, "top_level.txt")
        names.write_text("maskfeat_plugin\nmaskfeat_cli\n")


def read_requirements(name: str) -> list[str]:
    """Read the requirements of a file in ``requirements/``, without comments."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_version() -> str:
    """Read the version without importing the package and its requirements."""
    scope: dict[str, str] = {}
    exec((ROOT / "maskfeat_plugin" / "version.py").read_text(), scope)
    return scope["__version__"]


def read_citation(key: str) -> str | None:
    """Read a value of ``CITATION.cff``, or None if the key is missing. The build has no YAML parser."""
    found = re.search(rf"^(?:  - )?{key}: *(\S.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    return found and found[1].strip("'\"")


def project_pages(repository: str | None) -> dict[str, str]:
    """Return the links that the package index shows beside the description."""
    paper = {"Paper": "https://arxiv.org/abs/2112.09133"}
    if repository is None:
        return paper
    return paper | {
        "Source": repository,
        "Documentation": f"{repository}/blob/HEAD/docs/index.md",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def describe(repository: str | None) -> str:
    """Read the README for the package index, where relative links do not work.

    Args:
        repository (str, optional): Address of the repository, the base of the links. Without it, relative links become
            plain text.

    Returns:
        str: Markdown without relative links.
    """
    map_links = runpy.run_path(str(ROOT / "projects" / "documentation" / "links.py"))["map_links"]

    def change(target: str, anchor: str) -> str:
        if repository is None:
            return f"{RELATIVE}:"
        kind = "raw" if target.endswith(".png") else "blob"
        return f"{repository}/{kind}/HEAD/{target}{anchor}"

    return RELATIVE_LINK.sub(r"\1", map_links((ROOT / "README.md").read_text(encoding="utf-8"), change))


repository = read_citation("repository-code")
EXTRAS = ("demo", "tests", "web", "export", "features", "docs", "tracking", "remote", "shards", "seg")
extras = {name: read_requirements(name) for name in EXTRAS}
extras["all"] = sum(extras.values(), [])
# not part of "all", because it would overwrite a compiled mmcv
extras["mmcv-lite"] = read_requirements("mmcv")
extras["mim"] = ["mmcv>=2.1.0,<2.2"]
# not part of "all", because NumPy does the same and the set-up is faster without it
extras["search"] = ["faiss-cpu>=1.15,<2"]

setup(
    name="maskfeat_plugin",
    version=read_version(),
    description="MaskFeat pre-training for mmpretrain, mmaction2 and mmdet",
    long_description=describe(repository),
    long_description_content_type="text/markdown",
    author=read_citation("name"),
    url=repository,
    project_urls=project_pages(repository),
    license="Apache-2.0",
    keywords="MaskFeat, self-supervised learning, video recognition, OpenMMLab",
    packages=PACKAGES,
    package_data={"maskfeat_plugin": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=read_requirements("runtime") + read_requirements("openmmlab"),
    extras_require=extras,
    entry_points={"console_scripts": ["maskfeat = maskfeat_cli:main"]},
    cmdclass={"build_py": BuildWithMim, "egg_info": EggInfoForMim},
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
