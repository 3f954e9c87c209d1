"""The contract of a family of networks, as checks that users run on theirs.

``python -m archsearch.testing my_net.py:Net`` prints a line per check. In a test file::

    from archsearch.testing import contract_of, family_contract

    def test_contract():
        family_contract(Net)  # one error names every check that failed

    @pytest.mark.parametrize("check", contract_of(Net))  # or each check as a test
    def test_check(check):
        check()
"""

from archsearch.testing.contract import (
    Check,
    ContractBroken,
    Outcome,
    contract_of,
    family_contract,
)

__all__ = ["Check", "ContractBroken", "Outcome", "contract_of", "family_contract"]
