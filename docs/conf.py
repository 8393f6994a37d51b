"""How Sphinx builds these pages, of the extra `docs`:

    sphinx-build -W --keep-going -b html docs docs/_build/html
    sphinx-build -W --keep-going -b doctest docs docs/_build/doctest        # runs the examples of the guides
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))      # docstrings.py; tinydl is the one that is installed

from tinydl import __version__

project, author, copyright = "tinydl", "the authors of tinydl", "the authors of tinydl"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "docstrings"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"                   # of a module: the order of its __all__
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
add_module_names = False
maximum_signature_line_length = 100
python_use_unqualified_type_names = True

# The examples of the guides run in a folder of their own, which is removed.
doctest_test_doctest_blocks = ""                    # those of docstrings are run by tests/test_docs.py
# Those that need a package which the test extra leaves out are skipped where it is missing: `:skipif: not installed("onnx")`.
doctest_global_setup = """
import os, tempfile
from importlib.util import find_spec
def installed(*names): return all(find_spec(name) for name in names)
_folder, _before = tempfile.TemporaryDirectory(), os.getcwd()
os.chdir(_folder.name)
"""
doctest_global_cleanup = """
os.chdir(_before)
_folder.cleanup()
"""

html_theme = "furo"
html_title = f"tinydl {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
