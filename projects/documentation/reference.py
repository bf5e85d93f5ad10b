"""Config reference: a section for each registered component, with its keys, defaults and docstring."""

import inspect
import re
from collections.abc import Callable, Iterator

from mmengine.registry import Registry

from maskfeat_plugin import registry
from maskfeat_plugin.config.signatures import parameters

# (registry, subpackage of the component, "" for registries without subpackages) -> (name, title) of the page
PAGES = {
    ("MODELS", "selfsup"): ("algorithms", "Algorithms"),
    ("MODELS", "target_generators"): ("target_generators", "Target generators"),
    ("MODELS", "backbones"): ("backbones", "Backbones"),
    ("MODELS", "necks"): ("necks", "Necks and decoders"),
    ("MODELS", "heads"): ("heads", "Heads"),
    ("MODELS", "losses"): ("losses", "Losses"),
    ("MODELS", "data_preprocessors"): ("data_preprocessors", "Data preprocessors"),
    ("MODELS", "roi_extractors"): ("roi_extractors", "RoI extractors"),
    ("MODELS", ""): ("models", "Other models"),
    ("TRANSFORMS", ""): ("transforms", "Transforms"),
    ("DATASETS", ""): ("datasets", "Data sets"),
    ("DATA_SAMPLERS", ""): ("data_samplers", "Data samplers"),
    ("HOOKS", ""): ("hooks", "Hooks"),
    ("LOOPS", ""): ("loops", "Loops"),
    ("OPTIM_WRAPPERS", ""): ("optim_wrappers", "Optimizer wrappers"),
    ("OPTIM_WRAPPER_CONSTRUCTORS", ""): ("optim_wrapper_constructors", "Optimizer wrapper constructors"),
    ("STRATEGIES", ""): ("strategies", "Strategies"),
    ("FUNCTIONS", ""): ("functions", "Functions"),
    ("METRICS", ""): ("metrics", "Metrics"),
    ("VISUALIZERS", ""): ("visualizers", "Visualizers"),
    ("WEIGHT_INITIALIZERS", ""): ("weight_initializers", "Weights"),
}
_PACKAGE = "maskfeat_plugin"
_INDEX = """# Config reference

All components of scope `maskfeat`. The pages are made from the registries and the docstrings when this site is built.
Each section begins with the component's config, with all keys and their defaults. `...` marks a key without a default:
you must set it.

| type | kind | description |
| --- | --- | --- |
"""


def reference_pages() -> dict[str, tuple[str, str]]:
    """Build the pages of the config reference from the registries. They contain every registered component.

    Returns:
        dict[str, tuple[str, str]]: Name of a page -> title and Markdown for mkdocstrings. The index comes first.
    """
    sections: dict[tuple[str, str], list[str]] = {}
    rows = []
    for name in registry.__all__:
        for key, component in _registered(getattr(registry, name)):
            page = _page_of(name, component)
            sections.setdefault(page, []).append(_section(key, component))
            rows.append(f"| [`maskfeat.{key}`]({page[0]}.md#{_anchor(key)}) | {page[1]} | {_summary(component)} |")
    pages = {"index.md": ("All components", _INDEX + "\n".join(rows) + "\n")}
    for name, title in PAGES.values():
        if (name, title) in sections:
            pages[f"{name}.md"] = title, f"# {title}\n\n" + "\n".join(sections[name, title])
    return pages


def config_text(key: str, component: Callable) -> str:
    """Format the config of a component with all its keys.

    Args:
        key (str): Name of the component in the registry.
        component (Callable): Class of the component.

    Returns:
        str: Python code. Each key has its default or ``...``. Keys of another package's base class come last.
    """
    own: list[str] = []
    others: dict[str, list[str]] = {}
    for name, parameter in parameters(component).items():
        default = "..." if parameter.default is parameter.empty else _literal(parameter.default)
        source = _source(name, component)
        lines = own if source is None else others.setdefault(source, [f"    # keys of {source}"])
        lines.append(f"    {name}={default},")
    lines = [f'    type="maskfeat.{key}",', *own, *sum(others.values(), [])]
    return "dict(\n" + "\n".join(lines) + "\n)"


def _registered(entries: Registry) -> Iterator[tuple[str, Callable]]:
    entries.import_from_location()
    for key, component in sorted(entries.module_dict.items()):
        if component.__module__.startswith(f"{_PACKAGE}."):
            yield key, component


def _page_of(name: str, component: Callable) -> tuple[str, str]:
    subpackage = component.__module__.split(".")[2] if name == "MODELS" else ""
    return PAGES.get((name, subpackage)) or PAGES.get((name, "")) or (name.lower(), name.replace("_", " ").capitalize())


def _section(key: str, component: Callable) -> str:
    path = f"{component.__module__}.{component.__name__}"
    lines = [f"## {key} {{ #{_anchor(key)} }}", ""]
    if inspect.isclass(component):
        lines += ["```python", config_text(key, component), "```", ""]
    else:
        lines += [f'Named in a config as `"maskfeat.{key}"`.', ""]
    lines += [f"::: {path}", ""]
    for base in _bases_with_keys(component):
        lines += [f"Keys inherited from `{base.__name__}`:", "", f"::: {base.__module__}.{base.__name__}"]
        lines += ["    options:", "      show_docstring_description: false", ""]
    return "\n".join(lines)


def _bases_with_keys(component: Callable) -> list[type]:
    """Return the base classes of this package that document keys which the component's own docstring leaves out."""
    if not inspect.isclass(component):
        return []
    bases, missing = [], set(parameters(component)) - _told(component)
    for base in component.__mro__[1:]:
        said = missing & _told(base)
        if said and base.__module__.startswith(f"{_PACKAGE}."):
            bases.append(base)
            missing -= said
    return bases


def _told(component: Callable) -> set[str]:
    """Return the keys that a docstring explains. "See ..." is not an explanation."""
    return set(re.findall(r"^ +(\w+) \([^\n]+\): (?!See )", _own_doc(component), re.MULTILINE))


def _own_doc(component: Callable) -> str:
    """Return the docstrings of a class and its ``__init__``, without those inherited from a base class."""
    init = vars(component).get("__init__") if inspect.isclass(component) else None
    return (component.__doc__ or "") + (getattr(init, "__doc__", None) or "")


def _source(name: str, component: Callable) -> str | None:
    """Return the class of another package that takes a key, as named in configs; None for a class of this package."""
    for cls in component.__mro__ if inspect.isclass(component) else ():
        init = vars(cls).get("__init__")
        if init is not None and name in getattr(inspect.signature(init), "parameters", {}):
            package = cls.__module__.partition(".")[0]
            return None if package == _PACKAGE else f"{package}.{cls.__name__}"
    return None


def _literal(value: object) -> str:
    if inspect.isclass(value) or callable(value):
        return getattr(value, "__name__", repr(value))
    text = repr(value)
    return f'"{value}"' if isinstance(value, str) and '"' not in text else text


def _summary(component: Callable) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0].replace("|", "\\|")


def _anchor(key: str) -> str:
    return key.lower()
