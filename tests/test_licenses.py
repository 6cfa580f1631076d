"""Licence words become SPDX ids, and ids have a class."""

from __future__ import annotations

import pytest

from choline_data.licenses import CLASSES, freest, license_class, licenses_in, spdx_of, strictest


@pytest.mark.parametrize(
    ("word", "spdx"),
    [
        ("odc-by", "ODC-By-1.0"),
        ("mit", "MIT"),
        ("apache-2.0", "Apache-2.0"),
        ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
        ("cc0-1.0", "CC0-1.0"),
        ("cdla-sharing-1.0", "CDLA-Sharing-1.0"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("llama3", "LicenseRef-Llama-3-Community"),
        ("openrail", "LicenseRef-OpenRAIL"),
        ("other", "NOASSERTION"),
        ("unknown", "NOASSERTION"),
        ("", "NOASSERTION"),
        ("see the website", "NOASSERTION"),
        ("noassertion", "NOASSERTION"),
        ("Mixed", "mixed"),
        ("LicenseRef-Own-Words", "LicenseRef-Own-Words"),
        ("Zimbra-1.4", "Zimbra-1.4"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("(mit or gpl-3.0) and cc-by-4.0", "(MIT OR GPL-3.0-only) AND CC-BY-4.0"),
        ("mit and other", "NOASSERTION"),
    ],
)
def test_a_publishers_word_becomes_an_spdx_id(word: str, spdx: str) -> None:
    assert spdx_of(word) == spdx
    assert spdx_of(spdx) == spdx


@pytest.mark.parametrize(
    ("spdx", "expected"),
    [
        ("MIT", "permissive"),
        ("CC0-1.0", "permissive"),
        ("ODC-By-1.0", "attribution"),
        ("CC-BY-4.0", "attribution"),
        ("LicenseRef-CC-BY", "attribution"),
        ("CC-BY-SA-3.0", "share-alike"),
        ("CDLA-Sharing-1.0", "share-alike"),
        ("CC-BY-NC-SA-4.0", "non-commercial"),
        ("CC-BY-NC-ND-4.0", "no-derivatives"),
        ("LicenseRef-LMSYS-Chat-1M", "no-redistribution"),
        ("LicenseRef-Own-Words", "unknown"),
        ("NOASSERTION", "unknown"),
        ("mixed", "unknown"),
        ("", "unknown"),
        ("CC-BY-SA-3.0 AND GFDL-1.3-or-later", "share-alike"),
        ("MIT AND CC-BY-NC-4.0", "non-commercial"),
        ("GPL-3.0-only OR MIT", "permissive"),
        ("MIT OR NOASSERTION", "permissive"),
        ("(MIT OR GPL-3.0-only) AND CC-BY-4.0", "share-alike"),
    ],
)
def test_a_licence_has_a_class(spdx: str, expected: str) -> None:
    assert license_class(spdx) == expected
    assert license_class(spdx) in CLASSES


def test_classes_are_ordered_from_freest_to_unknown() -> None:
    assert strictest(["permissive", "non-commercial", "attribution"]) == "non-commercial"
    assert freest(["unknown", "share-alike"]) == "share-alike"
    assert strictest([]) == freest([]) == "unknown"


def test_an_expression_names_its_licences() -> None:
    assert licenses_in("(MIT OR GPL-3.0-only) AND CC-BY-4.0") == ("MIT", "GPL-3.0-only", "CC-BY-4.0")
    assert licenses_in("NOASSERTION") == ("NOASSERTION",)
