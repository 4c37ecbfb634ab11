from typer.main import get_command

from draftpool.cli.app import build_app


def test_every_command_and_every_setting_has_its_option() -> None:
    command = get_command(build_app())
    assert {"up", "generate", "models", "bandit", "demo", "serve"} <= command.commands.keys()
    orchestrator = command.commands["serve"].commands["orchestrator"]
    assert {"bandit_policy", "exploration"} <= {parameter.name for parameter in orchestrator.params}
