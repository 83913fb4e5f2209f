"""A model's file is found in its version directory, and nowhere outside the repository."""

import pytest

from deuteron.backends.artifact import find_artifact
from deuteron.proto.errors import Fault, InferError

from .conftest import Rig


def test_a_file_is_found_in_the_version_directory(rig: Rig) -> None:
    path = rig.files.version_directory / "model.onnx"
    path.touch()
    assert find_artifact(rig.files, "model.onnx", "model") == path


def test_a_missing_file_is_told_with_its_path(rig: Rig) -> None:
    with pytest.raises(InferError) as caught:
        find_artifact(rig.files, "model.onnx", "model")
    path = rig.files.version_directory / "model.onnx"
    assert caught.value.fault is Fault.UNAVAILABLE
    assert caught.value.message == f"unable to find '{path}' for model instance 'model'"


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "link"])
def test_a_file_outside_the_repository_is_refused(rig: Rig, name: str) -> None:
    repository = rig.files.directory.parent
    secret = repository.parent / "secret"
    secret.touch()
    (rig.files.version_directory / "link").symlink_to(secret)
    with pytest.raises(InferError) as caught:
        find_artifact(rig.files, name, "model")
    assert caught.value.titled == (
        f"Invalid argument: model file '{name}' of model 'model' is outside of the model repository"
    )


def test_versions_and_models_of_one_repository_may_share_a_file(rig: Rig) -> None:
    shared = rig.files.directory.parent / "weights.onnx"
    shared.touch()
    link = rig.files.version_directory / "model.onnx"
    link.symlink_to(shared)
    assert find_artifact(rig.files, "model.onnx", "model") == link


def test_a_model_directory_may_itself_be_a_link(rig: Rig) -> None:
    elsewhere = rig.files.directory.parent.parent / "elsewhere"
    rig.files.directory.rename(elsewhere)
    rig.files.directory.symlink_to(elsewhere)
    (elsewhere / "1" / "model.onnx").touch()
    assert find_artifact(rig.files, "model.onnx", "model").is_file()
