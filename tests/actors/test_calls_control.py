"""Python models that have other models loaded and unloaded, and ask whether they are ready."""

import asyncio

import pytest

from deuteron.actors.loading import LoadOptions
from deuteron.proto.errors import InferError

from .asking import HEAD, TELLING_CONFIG, House


async def test_whether_a_model_is_ready_can_be_asked(house: House) -> None:
    told = await house.tell("""
        return [pb_utils.is_model_ready(*each)
                for each in (("double",), ("double", "1"), ("double", "2"), ("nobody",), ("twice",))]
    """)
    assert told == [True, True, False, False, True]


FAILED = "Failed to {}: Failed to process the request for model 'caller_0', message: {}"

NO_VERSION = (
    "failed to get model version from specified version string '{}', version should be an integral value > 0"
)

CONTROL_ERRORS = {
    "load_model('nobody')": FAILED.format(
        "load model", "failed to load 'nobody', failed to poll from model repository"
    ),
    "load_model('double', files=[1])": (
        "failed to load model 'double', files should be a dictionary of file paths and file contents"
    ),
    "is_model_ready('double', 'x')": FAILED.format("check model readiness", NO_VERSION.format("x")),
    "is_model_ready('double', '-3')": FAILED.format("check model readiness", NO_VERSION.format("-3")),
}


@pytest.mark.parametrize("call", CONTROL_ERRORS)
async def test_a_wish_that_cannot_be_granted_is_refused(house: House, call: str) -> None:
    told = await house.tell(f"""
        try:
            pb_utils.{call}
        except pb_utils.TritonModelException as error:
            return str(error)
    """)
    assert told == CONTROL_ERRORS[call]


async def test_a_model_unloads_and_loads_another(house: House) -> None:
    told = await house.tell("""
        pb_utils.unload_model("double")
        gone = told(ask().exec())
        pb_utils.load_model("double")
        pb_utils.unload_model("nobody")
        return [gone, told(ask(value=5).exec())]
    """)
    assert "is not ready" in told[0]
    assert told[1] == [[10.0]]


async def test_a_model_reloads_itself(house: House) -> None:
    assert await house.tell('pb_utils.load_model("caller", config="")') is None


async def test_without_explicit_control_nothing_is_loaded(house: House) -> None:
    house.write_telling(
        "caller",
        """
        try:
            pb_utils.load_model("double")
        except pb_utils.TritonModelException as error:
            return str(error)
    """,
    )
    await house.open(explicit=False)
    assert await house.ask() == FAILED.format(
        "load model", "explicit model load / unload is not allowed if polling is enabled"
    )


async def test_nothing_is_loaded_while_the_server_starts_or_stops(house: House) -> None:
    house.write_telling(
        "caller",
        """
        try:
            pb_utils.unload_model("double")
        except pb_utils.TritonModelException as error:
            return str(error)
    """,
    )
    await house.open()
    house.calls.stop()
    assert await house.ask() == FAILED.format("unload model", "Server not ready")


INITIALIZES = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        STATEMENT

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]
"""
)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ask().exec()", "TritonModelException: BLS is only supported during the 'execute' function."),
        ("pb_utils.load_model('early')", "'early' is being loaded, and would wait for itself"),
        ("pb_utils.load_model('double')", "Server not ready"),
    ],
)
async def test_a_model_that_asks_too_early_does_not_load(house: House, statement: str, message: str) -> None:
    house.write("early", INITIALIZES.replace("STATEMENT", statement), TELLING_CONFIG)
    with pytest.raises(AssertionError, match="READY"):
        await house.open()
    (early,) = (entry for entry in house.repository.index() if entry.name == "early")
    assert message in early.reason


LOADS_ANOTHER = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        pb_utils.load_model("OTHER")

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]
"""
)


async def open_with_one_turn(house: House) -> None:
    """Open the house with nothing loaded, and one turn to load."""
    await house.open(names=[], options=LoadOptions(threads=1))


async def test_models_that_wait_for_others_do_not_keep_these_from_loading(house: House) -> None:
    """There is one turn, and it is taken by a model that waits for a second, which waits for a third."""
    house.write("first", LOADS_ANOTHER.replace("OTHER", "second"), TELLING_CONFIG)
    house.write("second", LOADS_ANOTHER.replace("OTHER", "double"), TELLING_CONFIG)
    await open_with_one_turn(house)
    async with asyncio.timeout(20):
        await house.repository.load("first")
    assert {each.name for each in house.repository.served()} == {"first", "second", "double"}


async def test_models_that_would_wait_for_each_other_are_told(house: House) -> None:
    house.write("hen", LOADS_ANOTHER.replace("OTHER", "egg"), TELLING_CONFIG)
    house.write("egg", LOADS_ANOTHER.replace("OTHER", "hen"), TELLING_CONFIG)
    await open_with_one_turn(house)
    async with asyncio.timeout(20):
        with pytest.raises(InferError, match="'egg' is being loaded, and would wait for itself"):
            await house.repository.load("hen")
