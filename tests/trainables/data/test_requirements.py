from trainables.data.requirements import requirements


def test_requirements_ask_for_the_clean_data_first(toy):
    config = toy("fusion", model={"lock_text": False}, uda={"mode": "dynamic"})
    needed = requirements(config)
    described = [(need.modality, need.uses_features, need.view is None) for need in needed]
    assert described == [("text", False, True), ("image", True, True), ("text", False, False), ("image", True, False)]
