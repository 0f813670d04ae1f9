"""Every URL of the site: the API, its documentation, health and the admin, to which the bare address leads."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from backend.tradingbot.admin.overview import changed_parts_view
from backend.tradingbot.admin.second_factor import ask_code_view, set_up_view

handler404 = "backend.tradingbot.api.errors.no_such_address"
handler500 = "backend.tradingbot.api.errors.unexpected"

urlpatterns = [
    path("", include("backend.tradingbot.api.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/second-factor/", ask_code_view, name="second_factor"),
    path("admin/second-factor/set-up/", set_up_view, name="second_factor_set_up"),
    path("admin/overview/", changed_parts_view, name="overview"),
    path("admin/", admin.site.urls),
]
