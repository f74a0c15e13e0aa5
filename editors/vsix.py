# SPDX-License-Identifier: Apache-2.0
"""The extension as one file that VS Code installs: a zip with a manifest, made from the folder without any other tool.

The same folder gives the same bytes. Nothing is published.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

EXTENSION = Path(__file__).with_name("vscode")
LICENSE = Path(__file__).parents[1] / "LICENSE"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip can tell."""
TYPES = {
    ".js": "application/javascript",
    ".json": "application/json",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".vsixmanifest": "text/xml",
}
MANIFEST = """\
<?xml version="1.0" encoding="utf-8"?>
<PackageManifest Version="2.0.0" xmlns="http://schemas.microsoft.com/developer/vsx-schema/2011">
  <Metadata>
    <Identity Language="en-US" Id={name} Version={version} Publisher={publisher}/>
    <DisplayName>{title}</DisplayName>
    <Description xml:space="preserve">{description}</Description>
    <Tags>{tags}</Tags>
    <Categories>{categories}</Categories>
    <GalleryFlags>Public</GalleryFlags>
    <Properties>
      <Property Id="Microsoft.VisualStudio.Code.Engine" Value={engine}/>
      <Property Id="Microsoft.VisualStudio.Code.ExtensionDependencies" Value=""/>
      <Property Id="Microsoft.VisualStudio.Code.ExtensionPack" Value=""/>
      <Property Id="Microsoft.VisualStudio.Code.ExtensionKind" Value="workspace"/>
    </Properties>
    <License>extension/LICENSE.txt</License>
  </Metadata>
  <Installation>
    <InstallationTarget Id="Microsoft.VisualStudio.Code"/>
  </Installation>
  <Dependencies/>
  <Assets>
    <Asset Type="Microsoft.VisualStudio.Code.Manifest" Path="extension/package.json" Addressable="true"/>
    <Asset Type="Microsoft.VisualStudio.Services.Content.Details" Path="extension/README.md" Addressable="true"/>
    <Asset Type="Microsoft.VisualStudio.Services.Content.License" Path="extension/LICENSE.txt" Addressable="true"/>
  </Assets>
</PackageManifest>
"""


def write_vsix(folder: Path) -> Path:
    """Write the extension into a folder and return its path, which has name and version."""
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    target = folder / f"{package['name']}-{package['version']}.vsix"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members(package).items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), text, zipfile.ZIP_DEFLATED)
    return target


def members(package: dict[str, Any]) -> dict[str, str]:
    """Return what the file holds, by name."""
    shipped = {
        f"extension/{path.relative_to(EXTENSION).as_posix()}": path.read_text(encoding="utf-8")
        for path in sorted(EXTENSION.rglob("*"))
        if path.is_file()
    }
    return {
        "extension.vsixmanifest": manifest(package),
        "[Content_Types].xml": _content_types(),
        **shipped,
        "extension/LICENSE.txt": LICENSE.read_text(encoding="utf-8"),
    }


def manifest(package: dict[str, Any]) -> str:
    """Return the manifest, from the extension's `package.json`."""
    return MANIFEST.format(
        name=quoteattr(str(package["name"])),
        version=quoteattr(str(package["version"])),
        publisher=quoteattr(str(package["publisher"])),
        title=escape(str(package["displayName"])),
        description=escape(str(package["description"])),
        tags=escape(",".join([*package["keywords"], "__ext_sohu"])),
        categories=escape(",".join(package["categories"])),
        engine=quoteattr(str(package["engines"]["vscode"])),
    )


def _content_types() -> str:
    rows = "".join(
        f"<Default Extension={quoteattr(end)} ContentType={quoteattr(type_)}/>"
        for end, type_ in sorted(TYPES.items())
    )
    space = "http://schemas.openxmlformats.org/package/2006/content-types"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<Types xmlns="{space}">{rows}</Types>\n'
