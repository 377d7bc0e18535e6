"""Options that are given twice: what is no list is refused, where the last one would silently win."""

from collections import Counter

import typer
import typer.core


class Once(typer.core.TyperGroup):
    """A group of commands that refuses an option which is given twice, unless it is repeatable."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple:
        """Returns name, command and arguments, as the base class does."""
        name, command, rest = super().resolve_command(ctx, args)
        # What is wrong otherwise the command itself tells; nothing is asked or called here.
        context = command.context_class(command, info_name=name, parent=ctx, resilient_parsing=True)
        _, _, order = command.make_parser(context).parse_args(args=[*rest])
        for parameter, count in Counter(order).items():
            single = isinstance(parameter, typer.core.TyperOption) and not (parameter.multiple or parameter.is_flag)
            if single and count > 1:
                raise typer.BadParameter(f"{parameter.opts[0]} is given {count} times. Give it once.", ctx=context)
        return name, command, rest
